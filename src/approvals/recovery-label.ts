// The label of an approval of "recover". In a file of its own, so that no other code of approvals is loaded without a policy.

/** Returns the label: the number of objects in the list that the approval's report names. */
export function recoveryLabel(objects: number): string {
  return objects === 1 ? "1 object" : `${objects} objects`;
}
