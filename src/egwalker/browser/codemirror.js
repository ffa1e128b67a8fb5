/** CodeMirror 6 editors bound to documents, with the CodeMirror that comes with egwalker in `vendor/codemirror.js`. */

import { binding } from "./binding.js";
import * as codemirror from "./vendor/codemirror.js";

export const { collaboration, bindCodeMirror } = binding(codemirror);
