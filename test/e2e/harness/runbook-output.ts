// Output that a runbook shows in full, made comparable with a real run's: times, ages and clocks count for nothing, nor
// do the blanks that align columns; key_ids get numbers in the order in which they come, so that one stays itself.

const KEY_ID = /\b[0-9a-f]{8,32}(?:…|\.)[0-9a-f]{4,33}\b/g;

export class RunbookOutput {
  readonly #keyIds = new Map<string, number>();
  readonly #names: readonly (readonly [string, string])[];

  /** @param names what stands for what, such as a node's address for the one that the runbook shows */
  constructor(names: readonly (readonly [string, string])[] = []) {
    this.#names = names;
  }

  /** Key_ids keep their numbers over the outputs of one run. */
  comparable(output: string): string {
    const named = this.#names.reduce((text, [from, to]) => text.replaceAll(from, to), output);
    return named
      .replace(KEY_ID, (keyId) => `<key ${this.#numberOf(keyId)}>`)
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "<time>")
      .replace(/@\d{8}T\d{6}Z/g, "@<instant>")
      .replace(/[+-]\d+\.\d s\b/g, "<clock>")
      .replace(/\b(?:in )?\d+[smhd]\b/g, "<age>")
      .replace(/\d+\.\d+ ms/g, "<duration>")
      .replace(/ +/g, " ")
      .replace(/ $/gm, "")
      .trimEnd();
  }

  #numberOf(keyId: string): number {
    const number = this.#keyIds.get(keyId) ?? this.#keyIds.size + 1;
    this.#keyIds.set(keyId, number);
    return number;
  }
}
