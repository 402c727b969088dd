// The generations of the KEK as one lane knows them. A reading fetches them in slices. A generation that a request needs
// and the lane lacks is taken over from another lane, or searched for. When handles may have been reused, generations are
// checked again or forgotten.
import pkcs11js from "pkcs11js";
import { ckaIdIn } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import type { ReadingProgress, ReadSlice } from "../hsm/wire-calls.js";
import { TokenFault } from "./ckr.js";
import { FingerprintMemory } from "./fingerprint.js";
import { ForeignObjects } from "./foreign-objects.js";
import { discoveredBefore, hasDiscovered, keysOf, type Kek } from "./kek.js";
import { readKeyring, type ReadKeyring } from "./keyring-reader.js";
import { KnownKeks, namesOf } from "./known-keks.js";
import type { LaneExchange } from "./lane-exchange.js";
import type { TokenSession } from "./session.js";
import { fromShared } from "./shared-kek.js";
import { isRefusal } from "./refusal.js";
import type { WantedKeys } from "./wanted-keys.js";

/** Duration of a slice, in ms; a call in progress may extend it. Requests wait until the slice ends. */
const SLICE_MS = 50;

/** Reads, finds and forgets the generations of the KEK for one lane. */
export class LaneKeyring {
  readonly #session: TokenSession;
  #wanted: WantedKeys;
  readonly #memory = { foreign: new ForeignObjects(), fingerprints: new FingerprintMemory() };
  #reading: Generator<ReadingProgress, ReadKeyring> | undefined;
  readonly #keks = new KnownKeks();
  /** Whether searches by CKA_ID find objects on this token; undefined until known. */
  #searchesById: boolean | undefined;
  readonly #exchange: LaneExchange;

  constructor(session: TokenSession, wanted: WantedKeys, exchange: LaneExchange) {
    this.#session = session;
    this.#wanted = wanted;
    this.#exchange = exchange;
  }

  /** Replaces the names of the KEKs. A reading in progress begins again. */
  setWanted(wanted: WantedKeys): void {
    this.#wanted = wanted;
    this.forgetHandles();
  }

  get all(): readonly Kek[] {
    return this.#keks.all;
  }

  /**
   * Returns a generation that this lane or another one has found; undefined if none has.
   * @throws TokenFault
   */
  known(keyId: string): Kek | undefined {
    const kek = this.#keks.get(keyId);
    if (kek === undefined) return this.#takeOver(keyId);
    if (!hasDiscovered(kek)) Object.assign(kek.discovered, this.#exchange.find(keyId)?.discovered);
    return kek;
  }

  /**
   * Returns the present key_id of the only KEK found by this lane that may have had this key_id earlier; undefined if a KEK
   * has it now. @throws TokenFault
   */
  presentKeyId(keyId: string): string | undefined {
    if (this.known(keyId) !== undefined) return undefined;
    return this.#keks.formerlyCalled(keyId)?.record.keyId;
  }

  /** Passes what this lane has discovered about a KEK to the others. */
  share(kek: Kek): void {
    this.#exchange.offer(kek);
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
    const found = this.#guarded(() => (ckaId === undefined ? [] : this.#search(pkcs11js.CKA_ID, ckaId)));
    this.#add(found);
    const keks = found.filter((kek) => namesOf(kek).includes(keyId)).map(({ record }) => record);
    return {
      done: true,
      keks,
      objects: keks.length,
      unreadable: 0,
      unreadableReason: "",
      ...this.#speed(),
    };
  }

  /** Makes a whole reading. @throws TokenFault */
  readAll(): readonly KekRecord[] {
    return this.#guarded(() => {
      this.#end(finish(this.#begin()));
      return this.#keks.all.map(({ record }) => record);
    });
  }

  /**
   * Finds a generation that is unknown or whose handle is no longer valid: by its CKA_ID, at a cost independent of
   * the number of objects on the token, or otherwise by a reading.
   * @throws TokenFault
   */
  find(keyId: string): Kek | undefined {
    const stale = this.#keks.get(keyId);
    if (stale !== undefined) {
      this.forgetHandles();
      const other = this.#takeOver(keyId, stale);
      if (other !== undefined) return other;
    }
    const ckaId = ckaIdIn(keyId);
    if (ckaId !== undefined) {
      this.#add(this.#search(pkcs11js.CKA_ID, ckaId));
      const found = this.#keks.get(keyId);
      if (found !== undefined && found !== stale) {
        this.#searchesById = true;
        return found;
      }
      if (this.#believesMiss(keyId)) {
        this.#keks.delete(keyId);
        return undefined;
      }
    }
    this.readAll();
    return this.#keks.get(keyId);
  }

  /** Finds the generations with a label, by a reading if a search for it returns none. @throws TokenFault */
  labelled(label: string): readonly KekRecord[] {
    const under = (keks: readonly Kek[]): KekRecord[] =>
      keks.map(({ record }) => record).filter((record) => record.label === label);
    const found = this.#search(pkcs11js.CKA_LABEL, label);
    this.#add(found);
    if (found.length > 0) return under(found);
    this.readAll();
    return under(this.#keks.all);
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
    this.#keks.replace(keks.map((kek) => this.#withDiscovered(kek)));
    for (const kek of this.#keks.named) this.#exchange.offer(kek);
    return {
      done: true,
      ...this.#speed(),
      keks: this.#keks.all.map(({ record }) => record),
      objects,
      unreadable: unreadable.length,
      unreadableReason: unreadable[0]?.message ?? "",
    };
  }

  #speed(): { readonly operationMs?: number } {
    const { operationMs } = this.#session;
    return operationMs === undefined ? {} : { operationMs };
  }

  /** Adds the generations that a narrower search found. */
  #add(keks: readonly Kek[]): void {
    for (const kek of keks) {
      const added = this.#withDiscovered(kek);
      this.#keks.put(added);
      if (this.#keks.get(added.record.keyId) === added) this.#exchange.offer(added);
    }
  }

  /** Uses the handles that another lane has found. @param stale a KEK whose handles have just failed */
  #takeOver(keyId: string, stale?: Kek): Kek | undefined {
    const shared = this.#exchange.find(keyId);
    const kek = shared && fromShared(this.#session, shared, stale && keysOf(stale));
    if (kek === undefined) return undefined;
    this.#keks.put(kek);
    return kek;
  }

  /** Discoveries belong to the key value that a key_id names; the handle may have been reused for another key. */
  #withDiscovered(kek: Kek): Kek {
    const { keyId } = kek.record;
    const own = discoveredBefore(this.#keks.get(keyId));
    return { ...kek, discovered: { ...this.#exchange.find(keyId)?.discovered, ...own } };
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
      const others = this.#keks.all.map(({ record }) => record.keyId).filter((other) => other !== keyId);
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
