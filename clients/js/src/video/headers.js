/**
 * Matrix and range that a compressed video itself names. They precede those of the file.
 *
 * A decoder of WebCodecs does not report them: it reports what it was configured with, or else a guess.
 *
 * Source: ITU-T H.264, 7.3.2.1.1 and E.1.1; VP9 bitstream specification, 6.2; AV1 bitstream specification, 5.5. For H.265,
 * only what the file says is read.
 */

import { Bits } from "./bits.js";
import { MATRIX_NAMES } from "./codecs.js";

/** @typedef {import("./codecs.js").Codec} Codec */
/** @typedef {import("./colours.js").ColourSpace} ColourSpace */

const NOTHING = { matrix: null, fullRange: null };
/** Profiles of H.264 with a chroma format. */
const HIGH = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
const EXTENDED_RATIO = 255;
const SEQUENCE_HEADER = 1;
const KEY_FRAME = 0;
const VP9_SYNC = 0x498342;
/** Colour spaces of VP9: BT.601, BT.709, SMPTE 170M, SMPTE 240M, BT.2020. @type {Record<number, string>} */
const VP9_MATRICES = { 1: "bt470bg", 2: "bt709", 3: "smpte170m", 5: "bt2020-ncl" };

/**
 * @param {Codec} codec
 * @param {Uint8Array} record codec record of the file
 * @param {Uint8Array} firstFrame compressed
 * @returns {ColourSpace} null for what is not named
 */
export function namedColours({ codec }, record, firstFrame) {
  if (codec.startsWith("avc1")) return h264(record);
  if (codec.startsWith("av01")) return av1(record);
  return codec.startsWith("vp09") ? vp9(firstFrame) : NOTHING;
}

/** @param {Uint8Array} record AVCDecoderConfigurationRecord, with the sequence parameter sets */
function h264(record) {
  if ((record[5] & 31) === 0) return NOTHING;
  const length = record[6] * 256 + record[7];
  const bits = new Bits(unescaped(record.subarray(9, 8 + length)));
  skipToUsability(bits);
  if (!bits.flag()) return NOTHING;
  if (bits.flag() && bits.read(8) === EXTENDED_RATIO) bits.read(32);
  if (bits.flag()) bits.read(1);
  if (!bits.flag()) return NOTHING;
  bits.read(3);
  const fullRange = bits.flag();
  return { fullRange, matrix: bits.flag() ? (MATRIX_NAMES[bits.read(24) & 255] ?? null) : null };
}

/**
 * Skip the fields of a sequence parameter set before `vui_parameters_present_flag`.
 *
 * @param {Bits} bits
 */
function skipToUsability(bits) {
  const profile = bits.read(8);
  bits.read(16);
  bits.golomb();
  if (HIGH.includes(profile)) {
    const chroma = bits.golomb();
    if (chroma === 3) bits.read(1);
    bits.golomb();
    bits.golomb();
    bits.read(1);
    if (bits.flag()) for (let list = 0; list < (chroma === 3 ? 12 : 8); list++) if (bits.flag()) skipScaling(bits, list < 6 ? 16 : 64);
  }
  bits.golomb();
  const order = bits.golomb();
  if (order === 0) bits.golomb();
  if (order === 1) {
    bits.read(1);
    bits.golomb();
    bits.golomb();
    for (let left = Math.min(bits.golomb(), 255); left > 0; left--) bits.golomb();
  }
  bits.golomb();
  bits.read(1);
  bits.golomb();
  bits.golomb();
  if (!bits.flag()) bits.read(1);
  bits.read(1);
  if (bits.flag()) for (let side = 0; side < 4; side++) bits.golomb();
}

/**
 * @param {Bits} bits
 * @param {number} size
 */
function skipScaling(bits, size) {
  for (let index = 0, last = 8, next = 8; index < size; index++) {
    if (next !== 0) next = (last + bits.signedGolomb() + 256) % 256;
    last = next || last;
  }
}

/** @param {Uint8Array} data with bytes that keep it from looking like a start code */
function unescaped(data) {
  return data.filter((byte, index) => !(byte === 3 && index > 1 && data[index - 1] === 0 && data[index - 2] === 0));
}

/** @param {Uint8Array} frame */
function vp9(frame) {
  const bits = new Bits(frame);
  bits.read(2);
  const profile = bits.read(1) + 2 * bits.read(1);
  if (profile === 3) bits.read(1);
  if (bits.flag() || bits.read(1) !== KEY_FRAME) return NOTHING;
  bits.read(2);
  if (bits.read(24) !== VP9_SYNC) return NOTHING;
  if (profile >= 2) bits.read(1);
  const matrix = VP9_MATRICES[bits.read(3)] ?? null;
  return { matrix, fullRange: bits.flag() };
}

/** @param {Uint8Array} record AV1CodecConfigurationRecord, with the sequence header */
function av1(record) {
  const unit = record.subarray(4);
  if (((unit[0] ?? 0) >> 3) % 16 !== SEQUENCE_HEADER) return NOTHING;
  let start = unit[0] & 4 ? 2 : 1;
  if (unit[0] & 2) while (unit[start++] & 128);
  const bits = new Bits(unit.subarray(start));
  const profile = bits.read(3);
  bits.read(1);
  const isReduced = bits.flag();
  if (isReduced) bits.read(5);
  else if (!skipOperatingPoints(bits)) return NOTHING;
  skipAv1Tools(bits, isReduced);
  return av1Colours(bits, profile);
}

/**
 * @param {Bits} bits
 * @returns {boolean} whether it was possible; timing is not read
 */
function skipOperatingPoints(bits) {
  if (bits.flag()) return false;
  const hasDelay = bits.flag();
  for (let left = bits.read(5); left >= 0; left--) {
    bits.read(12);
    if (bits.read(5) > 7) bits.read(1);
    if (hasDelay && bits.flag()) bits.read(4);
  }
  return true;
}

/**
 * @param {Bits} bits
 * @param {boolean} isReduced
 */
function skipAv1Tools(bits, isReduced) {
  const [width, height] = [bits.read(4) + 1, bits.read(4) + 1];
  bits.read(width);
  bits.read(height);
  if (!isReduced && bits.flag()) bits.read(7);
  bits.read(3);
  if (!isReduced) {
    bits.read(4);
    const hasOrder = bits.flag();
    if (hasOrder) bits.read(2);
    const isChosen = bits.flag();
    const tools = isChosen ? 1 : bits.read(1);
    if (tools && !bits.flag()) bits.read(1);
    if (hasOrder) bits.read(3);
  }
  bits.read(3);
}

/**
 * @param {Bits} bits
 * @param {number} profile
 * @returns {ColourSpace}
 */
function av1Colours(bits, profile) {
  if (bits.flag() && profile === 2) bits.read(1);
  const isGrey = profile !== 1 && bits.flag();
  const described = bits.flag() ? bits.read(24) : undefined;
  const code = described === undefined ? undefined : described & 255;
  if (described === 0x010d00) return { matrix: null, fullRange: true }; // sRGB
  return { matrix: isGrey || code === undefined ? null : (MATRIX_NAMES[code] ?? null), fullRange: bits.flag() };
}
