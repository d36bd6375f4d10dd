// Codes out of pictures and camera frames, decoded here by zxing-wasm: no frame leaves this page, and no request leaves the shop.
const FOLDER = "/static/vendor/zxing/";
const OPTIONS = {
  formats: ["QRCode", "DataMatrix", "Aztec", "PDF417", "Code128", "Code39", "EAN13", "EAN8", "ITF"], tryHarder: true, maxNumberOfSymbols: 1,
};
const PAUSE_MS = 90;
const LONGEST_PX = 1280;
const LARGEST_PICTURE_B = 30e6;

globalThis.ZXingWASM.prepareZXingModule({ overrides: { locateFile: (file) => FOLDER + file }, fireImmediately: false });

async function decode(canvas) {
  const frame = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height);
  const [found] = await globalThis.ZXingWASM.readBarcodes(frame, OPTIONS);
  return found?.isValid && found.text ? { code: found.text, symbology_id: found.symbologyIdentifier || "]X0" } : null;
}

function draw(source, width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind transparent pictures
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

// The code in a picture, or null. A phone's photo is tried small first, then at twice the size.
export async function readPicture(blob) {
  if (!blob || !blob.type.startsWith("image/") || blob.size > LARGEST_PICTURE_B) return null;
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    return null;
  }
  try {
    const size = Math.max(bitmap.width, bitmap.height);
    return (
      (await decode(draw(bitmap, bitmap.width, bitmap.height, LONGEST_PX))) ??
      (size > LONGEST_PX ? await decode(draw(bitmap, bitmap.width, bitmap.height, 2 * LONGEST_PX)) : null)
    );
  } finally {
    bitmap.close();
  }
}

export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

export class Camera {
  #stream = null;
  #turn = 0;

  // Read until a code is found or stop() is called. Rejects if the camera cannot be had.
  async start(video, onCode) {
    const turn = ++this.#turn;
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    if (turn !== this.#turn) return release(stream);
    this.#stream = stream;
    video.srcObject = stream;
    await video.play();
    while (turn === this.#turn) {
      if (video.videoWidth) {
        const found = await decode(draw(video, video.videoWidth, video.videoHeight, 960));
        if (found && turn === this.#turn) {
          this.stop(video);
          return onCode(found);
        }
      }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
  }

  stop(video) {
    this.#turn++;
    if (this.#stream) release(this.#stream);
    this.#stream = null;
    video.srcObject = null;
  }
}

function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}
