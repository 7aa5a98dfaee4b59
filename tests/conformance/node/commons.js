// `@azure/communication-common` under watch. Used by `common.test.js` and `refresh.js`.

import { Sdk, require } from "./judge.js";

const library = require("@azure/communication-common");
// The errors are another library's.
const { AzureCommunicationTokenCredential, RestError, isRestError, ...functions } = library;

const sdk = new Sdk("@azure/communication-common", {
  classes: [AzureCommunicationTokenCredential],
  declarations: ["dist/commonjs/azureCommunicationTokenCredential.d.ts"],
  functions: Object.fromEntries(Object.entries(functions).filter(([, value]) => typeof value === "function")),
});

export const common = {
  ...sdk.functions,
  /** A credential under watch. */
  credential: (options) => sdk.watch(new AzureCommunicationTokenCredential(options)),
};
