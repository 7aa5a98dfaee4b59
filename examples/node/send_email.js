// Sends a mail with an attachment through the broker and waits until ACS has sent it on.
//
//     npm install
//     node send_email.js alice@example.com

const path = require("node:path");
const { randomUUID } = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [to = "alice@example.com", server = "127.0.0.1:50051"] = process.argv.slice(2);
const definition = loader.loadSync("acsbroker/v1/email.proto", {
  includeDirs: [path.join(__dirname, "../../proto")],
  keepCase: true,
  enums: String,
  defaults: true,
});
const { acsbroker } = grpc.loadPackageDefinition(definition);
const email = new acsbroker.v1.EmailService(server, grpc.credentials.createInsecure());

function call(method, request) {
  return new Promise((resolve, reject) => {
    email[method](request, { deadline: Date.now() + 15_000 }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

async function main() {
  // One id for all tries: however often this is repeated, one mail goes out.
  const mail = {
    request_id: randomUUID(),
    to: [{ address: to, display_name: "Alice" }],
    subject: "Your invoice",
    plain_text: "See the attachment.",
    attachments: [
      { name: "invoice.csv", content_type: "text/csv", content: Buffer.from("item,price\ntea,3\n") },
    ],
  };
  for (;;) {
    try {
      const sent = await call("SendEmail", mail);
      console.log("sending", sent.state);
      break;
    } catch (error) {
      if (![grpc.status.UNAVAILABLE, grpc.status.ABORTED].includes(error.code)) throw error;
      console.log("not yet:", error.details);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
  const found = await call("GetEmail", { request_id: mail.request_id, wait: true });
  for (const delivery of found.deliveries) console.log(delivery.address, delivery.state);
  email.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
