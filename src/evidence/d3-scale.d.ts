// The part of d3-scale that the charts use; the package has no types of its own.
declare module "d3-scale" {
  interface Scale<Value> {
    (value: Value): number;
    domain(values: readonly Value[]): this;
    range(values: readonly number[]): this;
    ticks(count?: number): Value[];
    tickFormat(count?: number): (value: Value) => string;
  }
  export function scaleUtc(): Scale<Date>;
  export function scaleLinear(): Scale<number>;
}
