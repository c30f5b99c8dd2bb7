// Checks OpenRPC documents with the official tools: `node validate.mjs TOOLS FILE…`, where TOOLS is
// the folder in which they are installed.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [tools, ...files] = process.argv.slice(2);
const require = createRequire(join(tools, "package.json"));
const { parseOpenRPCDocument, validateOpenRPCDocument } = require("@open-rpc/schema-utils-js");

/** What the official tools do not mind, and clients do. */
function repeated(document) {
  const twice = (list) => list.filter((one, at) => list.indexOf(one) !== at);
  const names = twice(document.methods.map((method) => method.name));
  const codes = document.methods.flatMap(({ name, errors = [] }) =>
    twice(errors.map((error) => error.code ?? error.$ref)).map((code) => `${name}: ${code}`),
  );
  return [...names, ...codes];
}

for (const file of files) {
  const read = () => JSON.parse(readFileSync(file, "utf8"));
  const valid = validateOpenRPCDocument(read());
  if (valid !== true) throw new Error(`${file}: ${valid.message}`);
  const whole = await parseOpenRPCDocument(read(), { validate: true, dereference: true });
  const bad = repeated(read());
  if (bad.length > 0) throw new Error(`${file}: there twice: ${bad.join(", ")}`);
  console.log(`${file}: valid, ${whole.methods.length} methods`);
}
