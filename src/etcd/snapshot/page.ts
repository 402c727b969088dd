// One branch or leaf page of a bbolt file, or an inline one in the value of a bucket: a header, an array of elements, then
// their keys and values (go.etcd.io/bbolt, internal/common/page.go). The constructor checks that all of it
// lies within the page, in order and without overlap.
import { PAGE_HEADER_BYTES } from "./meta-page.js";

const BRANCH = 0x01;
const LEAF = 0x02;
const ELEMENT_BYTES = 16;
/** A leaf element whose value is a bucket. */
const BUCKET = 0x01;

export class Page {
  readonly id: number;
  readonly isLeaf: boolean;
  readonly count: number;
  readonly bytes: Buffer;

  /**
   * @param id the id for which the bytes were read
   * @param bytes the whole page with its overflow; keys and values are views of it
   * @throws Error if the page is damaged
   */
  constructor(id: number, bytes: Buffer) {
    this.id = id;
    this.bytes = bytes;
    if (bytes.length < PAGE_HEADER_BYTES) throw new Error("it is shorter than a header");
    const flags = bytes.readUInt16LE(8);
    if (readU64(bytes, 0) !== id) throw new Error(`it has the id ${readU64(bytes, 0)}`);
    if (flags !== BRANCH && flags !== LEAF) throw new Error("it is neither a branch nor a leaf");
    this.isLeaf = flags === LEAF;
    this.count = bytes.readUInt16LE(10);
    this.#requireDisjointElements();
  }

  /** Returns where the key of an element starts in `bytes`. */
  keyStart(index: number): number {
    const element = elementAt(index);
    return element + this.bytes.readUInt32LE(element + (this.isLeaf ? 4 : 0));
  }

  /** Returns where the key of an element ends, which is where its value starts. */
  keyEnd(index: number): number {
    return this.keyStart(index) + this.bytes.readUInt32LE(elementAt(index) + (this.isLeaf ? 8 : 4));
  }

  /** Returns where the value of a leaf element ends. */
  valueEnd(index: number): number {
    return this.keyEnd(index) + (this.isLeaf ? this.bytes.readUInt32LE(elementAt(index) + 12) : 0);
  }

  key(index: number): Buffer {
    return this.bytes.subarray(this.keyStart(index), this.keyEnd(index));
  }

  value(index: number): Buffer {
    return this.bytes.subarray(this.keyEnd(index), this.valueEnd(index));
  }

  /** Returns whether the value of a leaf element is a bucket. */
  isBucket(index: number): boolean {
    return (this.bytes.readUInt32LE(elementAt(index)) & BUCKET) !== 0;
  }

  /** Returns the page id of a branch element. */
  child(index: number): number {
    return readU64(this.bytes, elementAt(index) + 8);
  }

  /** Returns the last element whose key is not greater than the given one; -1 if every key is greater. */
  indexOf(key: Buffer): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.key(middle).compare(key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Throws unless the keys ascend and are in the range. @param below undefined for a range without end */
  requireOrder(from: Buffer, below: Buffer | undefined): void {
    let previous = from;
    for (let index = 0; index < this.count; index++) {
      const key = this.key(index);
      const order = previous.compare(key);
      if (order > 0 || (order === 0 && index > 0)) throw new Error("its keys are not in order");
      previous = key;
    }
    if (below !== undefined && this.count > 0 && previous.compare(below) >= 0) {
      throw new Error("its keys are not in order");
    }
  }

  #requireDisjointElements(): void {
    let end = elementAt(this.count);
    if (end > this.bytes.length) throw new Error(`it has no space for ${this.count} elements`);
    for (let index = 0; index < this.count; index++) {
      if (this.keyStart(index) < end) throw new Error(`element ${index} overlaps another`);
      end = this.valueEnd(index);
      if (end > this.bytes.length) throw new Error(`element ${index} ends outside the page`);
    }
  }
}

function elementAt(index: number): number {
  return PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
}

/** Returns an unsigned 64-bit integer; above 2^53 only its size is right, which exceeds every page id. */
export function readU64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * 2 ** 32;
}
