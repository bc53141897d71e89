// Judge photos in the browser; they do not leave it.

import * as ort from "../node/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { check } from "../check.mjs";

const folder = new URL(new URLSearchParams(location.search).get("graph") ?? "../graph/", location.href);
const said = document.getElementById("said");
const read = async (name) => (await fetch(new URL(name, folder))).arrayBuffer();

ort.env.wasm.wasmPaths = new URL("../node/node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that plain web servers do not send

try {
  const record = JSON.parse(new TextDecoder().decode(await read("detector.json")));
  const plain = await ort.InferenceSession.create(await read("detector.onnx"));
  const worst = await check(ort, plain, record, read);
  await plain.release();
  const session = await ort.InferenceSession.create(await read("detector-with-resize.onnx"));
  said.textContent = `Ready. Test pictures: answers differ by at most ${worst.toExponential(1)}.`;
  const chosen = document.getElementById("photo");
  chosen.disabled = false;
  chosen.addEventListener("change", () => judge(session, record, chosen.files[0]));
} catch (error) {
  said.textContent = `The detector cannot be used: ${error.message}`;
}

async function judge(session, record, file) {
  said.textContent = "Judging…";
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }); // zeroflaw ignores profiles
  const drawn = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  drawn.fillStyle = "white"; // which zeroflaw lays behind what is transparent
  drawn.fillRect(0, 0, bitmap.width, bitmap.height);
  drawn.drawImage(bitmap, 0, 0);
  const rgba = drawn.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  const image = new ort.Tensor("uint8", rgb, [1, bitmap.height, bitmap.width, 3]);
  const found = await session.run({ image });
  const logit = found.logit.data[0];
  const verdict = record.threshold ? (logit >= record.threshold.logit ? "anomalous, " : "good, ") : "";
  said.textContent = `${file.name}: ${verdict}log-odds ${logit.toFixed(2)}`;
  show(file, found.map);
}

function show(file, map) {
  const [, rows, columns] = map.dims;
  const canvas = document.getElementById("map");
  [canvas.width, canvas.height] = [columns, rows];
  const picture = new ImageData(columns, rows);
  map.data.forEach((value, place) => picture.data.set([255, 60, 0, 255 * value], 4 * place));
  canvas.getContext("2d").putImageData(picture, 0, 0);
  document.getElementById("seen").src = URL.createObjectURL(file);
  canvas.parentElement.hidden = false;
}
