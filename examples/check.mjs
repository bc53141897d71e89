// Compare an exported detector's answers about its test pictures with those it must give.
// `ort` is onnxruntime-node or onnxruntime-web; `read` returns a file of the folder as an ArrayBuffer.

export async function check(ort, session, record, read) {
  const inputs = {};
  for (const [name, said] of Object.entries(record.vectors.inputs)) {
    inputs[name] = new ort.Tensor("uint8", new Uint8Array(await read(said.file)), said.shape);
  }
  const found = await session.run(inputs);
  let worst = 0;
  for (const name of ["logit", "scores", "map"]) {
    const expected = record.vectors[name].flat(Infinity);
    expected.forEach((value, place) => {
      worst = Math.max(worst, Math.abs(value - found[name].data[place]));
    });
  }
  if (!(worst <= record.tolerance.allowed)) {
    throw new Error(`the graph gives other answers here: they differ by ${worst}`);
  }
  return worst;
}
