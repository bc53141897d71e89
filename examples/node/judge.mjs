// Check an exported detector under Node: node judge.mjs FOLDER

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { check } from "../check.mjs";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node judge.mjs FOLDER");
  process.exit(2);
}
const read = async (name) => {
  const data = await readFile(join(folder, name));
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
};
const record = JSON.parse(new TextDecoder().decode(await read("detector.json")));
const session = await ort.InferenceSession.create(join(folder, "detector.onnx"));
console.log(`test pictures: answers differ by at most ${(await check(ort, session, record, read)).toExponential(1)}`);
