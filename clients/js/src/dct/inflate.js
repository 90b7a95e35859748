/** Raw DEFLATE to a known number of bytes, and no more. */

const PIECE_BYTES = 4096; // of input, so that a stream that lies is known before it fills the memory

/** A stream, and a byte after its end. */
const LONGER = Uint8Array.of(3, 0, 0);
/** @type {Promise<boolean> | undefined} */
let isLax;

/**
 * Inflate a stream that must end where its bytes end.
 *
 * Browsers refuse bytes after the end of a stream. Node ignores them: there, a stream ends at its last byte if it is
 * cut off without it.
 *
 * @param {Uint8Array} stream
 * @param {number} size of what is in it
 * @returns {Promise<Uint8Array | undefined>} undefined if it is damaged, or ends elsewhere, or something else is in it
 */
export async function inflate(stream, size) {
  const content = await inflated(stream, size);
  isLax ??= inflated(LONGER, 0).then(Boolean);
  if (!content || ((await isLax) && (await inflated(stream.subarray(0, -1), size)))) return undefined;
  return content;
}

/**
 * @param {Uint8Array} stream
 * @param {number} size
 * @returns {Promise<Uint8Array | undefined>}
 */
async function inflated(stream, size) {
  const { readable, writable } = new DecompressionStream("deflate-raw");
  const [reader, content] = [readable.getReader(), new Uint8Array(size)];
  const fed = feed(writable.getWriter(), stream);
  fed.catch(() => {}); // the reader has the same error
  let length = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (length + part.value.length > size) {
        await reader.cancel();
        return undefined;
      }
      content.set(part.value, length);
      length += part.value.length;
    }
  } catch {
    return undefined; // only the stream can fail here: browsers and Node name its errors differently
  }
  return length === size ? content : undefined;
}

/**
 * @param {WritableStreamDefaultWriter} writer
 * @param {Uint8Array} stream
 */
async function feed(writer, stream) {
  for (let first = 0; first < stream.length; first += PIECE_BYTES) await writer.write(stream.subarray(first, first + PIECE_BYTES));
  await writer.close();
}
