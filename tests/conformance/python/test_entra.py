"""Microsoft's Entra library for Python and the official identity client, unmodified, against the emulator.

Run by `tests/conformance.rs`, which starts the emulator and says in the environment where it is:
ACS_CONNECTION_STRING (https), REQUESTS_CA_BUNDLE (the emulator's CA), and ACS_EMULATOR_HTTP (such as
http://127.0.0.1:8082), because the metadata service of a machine speaks plain HTTP alone. The well-known values of the
test issuer stand in docs/emulator.md.
"""

import base64
import json
import os
import tempfile
import time
import unittest
from unittest import mock

from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    ChainedTokenCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

ENDPOINT = os.environ["ACS_CONNECTION_STRING"].split(";")[0].removeprefix("endpoint=").rstrip("/")
HTTP = os.environ["ACS_EMULATOR_HTTP"].rstrip("/")

TENANT = "00000000-ac5b-4000-8000-000000000000"
OWNER = "00000000-ac5b-4000-8000-000000000001"
STRANGER = "00000000-ac5b-4000-8000-000000000002"
SECRET = "emulator-client-secret"
SUBJECT = "system:serviceaccount:default:acs-broker"
SCOPE = "https://communication.azure.com//.default"
# The library asks login.microsoftonline.com whether it knows an authority, unless told that it need not.
PRIVATE_CLOUD = {"authority": ENDPOINT, "disable_instance_discovery": True}


def federated_token(subject=SUBJECT, audience=("api://AzureADTokenExchange",), lifetime=600):
    """What a cluster projects into a pod. Nobody checks the signature, for nobody knows the cluster's key."""
    claims = {
        "iss": "https://cluster.example",
        "sub": subject,
        "aud": list(audience),
        "exp": int(time.time()) + lifetime,
    }
    encode = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    return f"{encode({'alg': 'RS256', 'kid': 'cluster'})}.{encode(claims)}.c2lnbmF0dXJl"


def secret(client=OWNER, text=SECRET, tenant=TENANT):
    return ClientSecretCredential(tenant, client, text, **PRIVATE_CLOUD)


def assertion(**claims):
    return ClientAssertionCredential(TENANT, OWNER, lambda: federated_token(**claims), **PRIVATE_CLOUD)


class Entra(unittest.TestCase):
    def setUp(self):
        settings = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": HTTP, "AZURE_AUTHORITY_HOST": ENDPOINT}
        patch = mock.patch.dict(os.environ, settings)
        patch.start()
        self.addCleanup(patch.stop)

    def works(self, credential):
        client = CommunicationIdentityClient(ENDPOINT, credential)
        user, token = client.create_user_and_token(["chat"])
        self.assertTrue(user.properties["id"].startswith("8:acs:"))
        self.assertTrue(client.get_token(user, ["voip"]).token)
        self.assertEqual(len(token.token.split(".")), 3)
        client.delete_user(user)

    def test_a_managed_identity(self):
        self.works(ManagedIdentityCredential())

    def test_a_managed_identity_of_a_named_application(self):
        self.works(ManagedIdentityCredential(client_id=OWNER))

    def test_a_workload_identity(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(federated_token())
            file.flush()
            self.works(
                WorkloadIdentityCredential(
                    tenant_id=TENANT, client_id=OWNER, token_file_path=file.name, disable_instance_discovery=True
                )
            )

    def test_a_workload_identity_found_by_the_default_credential(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(federated_token())
            file.flush()
            settings = {
                "AZURE_TENANT_ID": TENANT,
                "AZURE_CLIENT_ID": OWNER,
                "AZURE_FEDERATED_TOKEN_FILE": file.name,
            }
            with mock.patch.dict(os.environ, settings):
                self.works(
                    DefaultAzureCredential(
                        disable_instance_discovery=True, exclude_environment_credential=True
                    )
                )

    def test_a_client_secret(self):
        self.works(secret())

    def test_a_chain_that_finds_the_managed_identity(self):
        self.works(ChainedTokenCredential(ManagedIdentityCredential(), secret()))

    def test_the_token_says_for_how_long(self):
        for credential, seconds in [(secret(), 3599), (ManagedIdentityCredential(), 86399)]:
            left = credential.get_token(SCOPE).expires_on - time.time()
            self.assertAlmostEqual(left, seconds, delta=30)

    def test_principals_without_the_role_are_refused(self):
        for credential in [secret(client=STRANGER), ManagedIdentityCredential(client_id=STRANGER)]:
            self.assertTrue(credential.get_token(SCOPE).token, "it does get a token")
            with self.assertRaises(ClientAuthenticationError) as raised:
                CommunicationIdentityClient(ENDPOINT, credential).create_user()
            error = raised.exception
            self.assertEqual((error.status_code, error.error.code), (401, "Denied"))

    def refused(self, credential, code, scope=SCOPE):
        with self.assertRaises(ClientAuthenticationError) as raised:
            credential.get_token(scope)
        self.assertIn(code, str(raised.exception))
        self.assertNotIn(SECRET, str(raised.exception))

    def test_what_the_issuer_refuses_reads_like_the_real_one(self):
        self.refused(secret(text="wrong"), "AADSTS7000215")
        self.refused(secret(client="00000000-0000-4000-8000-000000000000"), "AADSTS700016")
        self.refused(secret(), "AADSTS500011", "https://vault.azure.net/.default")
        self.refused(assertion(subject="system:serviceaccount:default:other"), "AADSTS700213")
        self.refused(assertion(audience=["https://kubernetes.default.svc"]), "AADSTS700212")
        self.refused(assertion(lifetime=-1), "AADSTS700024")

    def test_an_unknown_managed_identity_is_unavailable(self):
        with self.assertRaises(CredentialUnavailableError):
            ManagedIdentityCredential(client_id="00000000-0000-4000-8000-000000000000").get_token(SCOPE)


if __name__ == "__main__":
    unittest.main()
