// The series of pairs of labels, each looked up once: prom-client hashes labels anew at every call otherwise, which
// shows on the path of a cached request.

interface Counted {
  readonly count: { inc(): void };
  readonly seconds: { observe(seconds: number): void };
}

export class Series {
  readonly #made = new Map<string, Map<string, Counted>>();
  readonly #make: (first: string, second: string) => Counted;

  constructor(make: (first: string, second: string) => Counted) {
    this.#make = make;
  }

  get(first: string, second: string): Counted {
    const known = this.#made.get(first)?.get(second);
    if (known !== undefined) return known;
    const made = this.#make(first, second);
    const rest = this.#made.get(first) ?? new Map<string, Counted>();
    this.#made.set(first, rest.set(second, made));
    return made;
  }
}
