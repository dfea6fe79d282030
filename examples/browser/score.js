// Scores a face crop with model.onnx in the browser, by onnxruntime-web.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const input = document.querySelector("input");
const output = document.querySelector("output");
const canvas = document.querySelector("canvas");

ort.env.wasm.numThreads = 1; // more need a page that is isolated from other origins
const about = await (await fetch("model.onnx.json")).json();
const session = await ort.InferenceSession.create("model.onnx");
const size = about.input.shape[1];

async function score(file) {
  const picture = await createImageBitmap(file);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, size, size);
  context.drawImage(picture, 0, 0, size, size);
  const { data } = context.getImageData(0, 0, size, size);
  const crop = data.filter((_, i) => i % 4 < 3); // without alpha
  const crops = new ort.Tensor("uint8", Uint8Array.from(crop), [1, size, size, 3]);
  const { fidelity, p_fake } = await session.run({ crops });
  return { fidelity: fidelity.data[0], p_fake: p_fake.data[0] };
}

function decide(fidelity) {
  if (fidelity >= about.threshold) return "real";
  return fidelity < (about.fake_below ?? about.threshold) ? "fake" : "uncertain";
}

input.onchange = async () => {
  try {
    const { fidelity, p_fake } = await score(input.files[0]);
    output.dataset.fidelity = fidelity;
    output.dataset.pFake = p_fake;
    output.textContent =
      `${decide(fidelity)}: fidelity ${fidelity.toFixed(4)} (real from ` +
      `${about.threshold.toFixed(4)}), p_fake ${p_fake.toFixed(4)}`;
  } catch (error) {
    output.textContent = `This file cannot be scored: ${error.message}`;
  }
};
output.textContent = "Ready.";
