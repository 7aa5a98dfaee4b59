// The official Chat SDK for JavaScript. See `judge.js`; the cases are in the files named here.

import "./chat_threads.js";
import "./chat_messages.js";
import "./chat_refusals.js";
import { judgeTheSdks } from "./judge.js";

judgeTheSdks();
