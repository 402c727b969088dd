// One token as an HSM: the port over its host pool.
import type { KmsError } from "../errors.js";
import { HostPool, type HostPoolOptions } from "./host-pool.js";
import type { MechanismChoice } from "./mechanisms.js";
import type { Caller, Hsm, HsmState } from "./port.js";
import {
  Op,
  type CryptRequest,
  type GenerateRequest,
  type KekRecord,
  type ProbeResult,
  type TokenDescription,
} from "./wire.js";

/** What an operator's commands need beyond what serving needs. */
export interface TokenAdministration {
  token(): TokenDescription | undefined;
  generate(request: GenerateRequest): Promise<KekRecord>;
  destroy(keyId: string): Promise<void>;
  relabel(keyId: string, label: string): Promise<KekRecord>;
}

export class TokenHsm implements Hsm, TokenAdministration {
  readonly pool: HostPool;

  constructor(options: HostPoolOptions) {
    this.pool = new HostPool(options);
  }

  start(): void {
    this.pool.start();
  }

  async stop(graceMs: number): Promise<void> {
    await this.pool.stop(graceMs);
  }

  encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.pool.crypt(Op.encrypt, request, caller);
  }

  decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    return this.pool.crypt(Op.decrypt, request, caller);
  }

  listKeks(): Promise<readonly KekRecord[]> {
    return this.pool.listKeks();
  }

  async probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    return (await this.pool.control(Op.probe, { keyId, choice })) as ProbeResult[];
  }

  state(): HsmState {
    return this.pool.state();
  }

  /** Why the token cannot be used now; undefined when it can, or when nothing is known yet. */
  reason(): KmsError | undefined {
    const state = this.pool.state();
    return state.up ? undefined : state.reason;
  }

  token(): TokenDescription | undefined {
    return this.pool.token;
  }

  async generate(request: GenerateRequest): Promise<KekRecord> {
    return (await this.pool.control(Op.generate, request)) as KekRecord;
  }

  async destroy(keyId: string): Promise<void> {
    await this.pool.control(Op.destroy, { keyId });
  }

  async relabel(keyId: string, label: string): Promise<KekRecord> {
    return (await this.pool.control(Op.relabel, { keyId, label })) as KekRecord;
  }
}
