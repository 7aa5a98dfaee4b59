//! The certificates of the HTTPS listener: a CA made anew at each start, and a leaf for loopback names signed by it.
//!
//! The CA certificate is written to a file that SDKs can be told to trust. Private keys never leave memory, and the
//! CA's is forgotten once the leaf is signed. Called by `start`.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::settings::StartError;
use crate::clock::{Clock, SystemClock, Timestamp};

const FILE_NAME: &str = "acs-emulator-ca.pem";
const DAY: Duration = Duration::from_hours(24);
/// Some platforms refuse server certificates that are valid for longer than 825 days.
const VALIDITY: Duration = Duration::from_hours(24 * 820);

/// What HTTPS needs.
pub(super) struct Certificates {
    pub(super) ca_pem: String,
    pub(super) tls: Arc<ServerConfig>,
}

/// Makes a CA and a leaf for loopback and `other`, the address listened on if it is another one.
pub(super) fn make(other: IpAddr) -> Result<Certificates, StartError> {
    // Peers check certificates against the real time, whatever the emulator's own clock shows.
    let now = SystemClock.now();

    let ca_key = KeyPair::generate()?;
    let mut ca = dated(CertificateParams::default(), now);
    ca.distinguished_name.push(DnType::CommonName, "acs-broker emulator CA (not for production)");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !other.is_loopback() && !other.is_unspecified() {
        names.push(other.to_string());
    }
    let leaf_key = KeyPair::generate()?;
    let mut leaf = dated(CertificateParams::new(names)?, now);
    leaf.distinguished_name.push(DnType::CommonName, "acs-broker emulator");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf_certificate = leaf.signed_by(&leaf_key, &Issuer::from_params(&ca, &ca_key))?;

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    // The provider is named here, so that the process needs no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf_certificate.der().clone()], key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Certificates { ca_pem: ca_certificate.pem(), tls: Arc::new(tls) })
}

fn dated(mut params: CertificateParams, now: Timestamp) -> CertificateParams {
    params.not_before = now.minus(DAY).to_system_time().into();
    params.not_after = now.plus(VALIDITY).to_system_time().into();
    params
}

/// The CA file, and the folder that was made for it, which goes when this does.
pub(super) struct CaFile {
    path: PathBuf,
    own_folder: Option<PathBuf>,
}

impl CaFile {
    /// Writes the CA certificate into `folder`, or into a new private one.
    pub(super) fn write(folder: Option<&Path>, pem: &str) -> Result<Self, StartError> {
        let (folder, own_folder) = match folder {
            Some(folder) => {
                fs::create_dir_all(folder)
                    .map_err(|source| StartError::CaFile { path: folder.to_owned(), source })?;
                (folder.to_owned(), None)
            }
            None => {
                let folder =
                    std::env::temp_dir().join(format!("acs-emulator-{}", uuid::Uuid::new_v4().simple()));
                // Fails if it exists, so nobody can have put it there before.
                fs::DirBuilder::new()
                    .mode(0o700)
                    .create(&folder)
                    .map_err(|source| StartError::CaFile { path: folder.clone(), source })?;
                (folder.clone(), Some(folder))
            }
        };
        let file = Self { path: folder.join(FILE_NAME), own_folder };
        replace(&file.path, pem).map_err(|source| StartError::CaFile { path: file.path.clone(), source })?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        if let Some(folder) = &self.own_folder {
            // Left-overs in the temporary folder are harmless: a certificate is public.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Writes beside the file and renames, so that a reader never sees half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension(format!("pem.{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_ca_file_holds_one_certificate_and_no_key_in_a_private_folder_that_goes_away() {
        let made = make("127.0.0.1".parse().unwrap()).unwrap();
        let file = CaFile::write(None, &made.ca_pem).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1);
        assert!(!text.contains("PRIVATE"));
        let folder = file.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(file);
        assert!(!folder.exists());
    }

    #[test]
    fn a_given_folder_is_made_and_kept_and_the_file_replaced() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let first = CaFile::write(Some(&folder), "one").unwrap();
        let second = CaFile::write(Some(&folder), "two").unwrap();
        assert_eq!(first.path(), second.path());
        drop((first, second));
        assert_eq!(fs::read_to_string(folder.join(FILE_NAME)).unwrap(), "two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
