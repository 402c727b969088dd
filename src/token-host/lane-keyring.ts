// The generations of the KEK as one lane knows them: read in slices when the plugin asks for a reading, searched for
// one at a time when a request needs a generation that is unknown, and forgotten when handles may have been reused.
import pkcs11js from "pkcs11js";
import { ckaIdIn, namesValue } from "../hsm/key-id.js";
import { PUBLIC_KEY, type KekRecord } from "../hsm/port.js";
import type { ReadingProgress, ReadSlice } from "../hsm/wire-calls.js";
import { TokenFault } from "./ckr.js";
import { FingerprintMemory } from "./fingerprint.js";
import { ForeignObjects } from "./foreign-objects.js";
import { discoveredBefore, type Kek } from "./kek.js";
import { readKeyring, type ReadKeyring, type WantedKeys } from "./keyring-reader.js";
import type { TokenSession } from "./session.js";
import { isRefusal } from "./refusal.js";

/** Duration of a slice, in ms; a call in progress may extend it. Requests wait until the slice ends. */
const SLICE_MS = 50;

/** Reads, finds and forgets the generations of the KEK for one lane. */
export class LaneKeyring {
  readonly #session: TokenSession;
  readonly #wanted: WantedKeys;
  readonly #memory = { foreign: new ForeignObjects(), fingerprints: new FingerprintMemory() };
  #reading: Generator<ReadingProgress, ReadKeyring> | undefined;
  /** All generations, including copies of one key under several labels. */
  #all: readonly Kek[] = [];
  #byKeyId = new Map<string, Kek>();
  /** Whether searches by CKA_ID find objects on this token; undefined until known. */
  #searchesById: boolean | undefined;

  constructor(session: TokenSession, wanted: WantedKeys) {
    this.#session = session;
    this.#wanted = wanted;
  }

  get all(): readonly Kek[] {
    return this.#all;
  }

  known(keyId: string): Kek | undefined {
    return this.#byKeyId.get(keyId);
  }

  /** Reads one slice. @param resume continues the reading that an earlier call began @throws TokenFault */
  readSlice(resume: boolean): ReadSlice {
    return this.#guarded(() => {
      const reading = (resume ? this.#reading : undefined) ?? this.#begin();
      this.#reading = reading;
      const until = performance.now() + SLICE_MS;
      for (;;) {
        const step = reading.next();
        if (step.done === true) return this.#end(step.value);
        if (performance.now() >= until) return { done: false, ...step.value };
      }
    });
  }

  /** Finds one generation by its CKA_ID and reads no other object. @throws TokenFault */
  readOne(keyId: string): ReadSlice {
    const ckaId = ckaIdIn(keyId);
    this.#guarded(() => {
      if (ckaId !== undefined) this.#add(this.#search(pkcs11js.CKA_ID, ckaId));
    });
    const found = this.#byKeyId.get(keyId);
    const keks = found === undefined ? [] : [found.record];
    return { done: true, keks, objects: keks.length, unreadable: 0, unreadableReason: "" };
  }

  /** Makes a whole reading. @throws TokenFault */
  readAll(): readonly KekRecord[] {
    return this.#guarded(() => {
      this.#end(finish(this.#begin()));
      return this.#all.map(({ record }) => record);
    });
  }

  /**
   * Finds a generation that is unknown or whose handle is no longer valid: by its CKA_ID, at a cost independent of
   * the number of objects on the token, or otherwise by a reading.
   * @throws TokenFault
   */
  find(keyId: string): Kek | undefined {
    const stale = this.#byKeyId.get(keyId);
    if (stale !== undefined) this.forgetHandles();
    const ckaId = ckaIdIn(keyId);
    if (ckaId !== undefined) {
      this.#add(this.#search(pkcs11js.CKA_ID, ckaId));
      const found = this.#byKeyId.get(keyId);
      if (found !== undefined && found !== stale) {
        this.#searchesById = true;
        return found;
      }
      if (this.#believesMiss(keyId)) {
        this.#byKeyId.delete(keyId);
        return undefined;
      }
    }
    this.readAll();
    return this.#byKeyId.get(keyId);
  }

  /** Finds the generations with a label, by a reading if a search for it returns none. @throws TokenFault */
  labelled(label: string): readonly KekRecord[] {
    const under = (keks: readonly Kek[]): KekRecord[] =>
      keks.map(({ record }) => record).filter((record) => record.label === label);
    const found = this.#search(pkcs11js.CKA_LABEL, label);
    this.#add(found);
    if (found.length > 0) return under(found);
    this.readAll();
    return under(this.#all);
  }

  /** Forgets which handles belong to other applications, since their numbers may have been reused. */
  forgetHandles(): void {
    this.#memory.foreign.clear();
    this.#reading = undefined;
  }

  #begin(): Generator<ReadingProgress, ReadKeyring> {
    return readKeyring(this.#session, this.#wanted, this.#memory);
  }

  #end({ keks, objects, unreadable }: ReadKeyring): ReadSlice {
    this.#reading = undefined;
    this.#all = keks.map((kek) => this.#withDiscovered(kek));
    this.#byKeyId = new Map();
    for (const kek of this.#all) this.#name(kek);
    return {
      done: true,
      keks: this.#all.map(({ record }) => record),
      objects,
      unreadable: unreadable.length,
      unreadableReason: unreadable[0]?.message ?? "",
    };
  }

  /** Adds the generations that a narrower search found. */
  #add(keks: readonly Kek[]): void {
    for (const kek of keks) {
      const added = this.#withDiscovered(kek);
      const isSame = ({ record }: Kek): boolean =>
        record.keyId === kek.record.keyId && record.label === kek.record.label;
      this.#all = [...this.#all.filter((known) => !isSame(known)), added];
      this.#name(added);
    }
  }

  /**
   * Makes a generation known by its key_ids. A key that somebody without the PIN has made may have the key_id of a KEK
   * if the HSM computes no fingerprint; it is never used, and no unprotected key is used instead of a protected one.
   */
  #name(kek: Kek): void {
    const { keyId, aliases, unprotected } = kek.record;
    if (unprotected.includes(PUBLIC_KEY) && !namesValue(keyId)) return;
    for (const name of [keyId, ...aliases]) {
      const known = this.#byKeyId.get(name);
      const isWorse = unprotected.length > 0 && known?.record.unprotected.length === 0;
      if (!isWorse) this.#byKeyId.set(name, kek);
    }
  }

  /** Discoveries belong to the key value that a key_id names; the handle may have been reused for another key. */
  #withDiscovered(kek: Kek): Kek {
    return { ...kek, discovered: discoveredBefore(this.#byKeyId.get(kek.record.keyId)) };
  }

  /** Returns an empty list if the token does not search by that attribute. */
  #search(type: number, value: Buffer | string): readonly Kek[] {
    try {
      return finish(readKeyring(this.#session, this.#wanted, this.#memory, [{ type, value }])).keks;
    } catch (error) {
      if (error instanceof TokenFault && isRefusal(error)) return [];
      throw error;
    }
  }

  /**
   * Returns whether an empty search by CKA_ID proves that the key does not exist: the same search finds another key.
   */
  #believesMiss(keyId: string): boolean {
    if (this.#searchesById === undefined) {
      const others = this.#all.map(({ record }) => record.keyId).filter((other) => other !== keyId);
      const ckaId = others.map(ckaIdIn).find((other) => other !== undefined);
      if (ckaId !== undefined) this.#searchesById = this.#search(pkcs11js.CKA_ID, ckaId).length > 0;
    }
    return this.#searchesById === true;
  }

  /** After an error of the session or the token, handles may have been reused. */
  #guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      this.#reading = undefined;
      if (!(error instanceof TokenFault) || !isRefusal(error)) this.forgetHandles();
      throw error;
    }
  }
}

function finish(reading: Generator<ReadingProgress, ReadKeyring>): ReadKeyring {
  for (;;) {
    const step = reading.next();
    if (step.done === true) return step.value;
  }
}
