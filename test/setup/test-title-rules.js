// ESLint rules for the titles of tests: short enough to be read in a list of failures, and distinguishable without the
// titles of their groups.

const MAX_TITLE = 89;
const TESTS = new Set(["it", "test"]);

/** Returns the title's node of a call such as it("...", ...) or it.each(...)("...", ...); undefined for other calls. */
function titleOf(call) {
  let callee = call.callee;
  if (callee.type === "CallExpression" || callee.type === "TaggedTemplateExpression") {
    callee = callee.callee ?? callee.tag;
    if (callee.type !== "MemberExpression") return undefined;
  }
  while (callee.type === "MemberExpression") callee = callee.object;
  const [title] = call.arguments;
  const isTest = callee.type === "Identifier" && TESTS.has(callee.name);
  return isTest && title?.type === "Literal" && typeof title.value === "string" ? title : undefined;
}

const shortTitle = {
  meta: { type: "suggestion", schema: [] },
  create: (context) => ({
    CallExpression(call) {
      const title = titleOf(call);
      if (title === undefined || title.value.length <= MAX_TITLE) return;
      context.report({
        node: title,
        message: `title of ${title.value.length} characters: at most ${MAX_TITLE}`,
      });
    },
  }),
};

const uniqueTitle = {
  meta: { type: "suggestion", schema: [] },
  create: (context) => {
    const seen = new Set();
    return {
      CallExpression(call) {
        const title = titleOf(call);
        if (title === undefined) return;
        if (seen.has(title.value)) context.report({ node: title, message: "title repeated in this file" });
        seen.add(title.value);
      },
    };
  },
};

export const testTitles = { rules: { short: shortTitle, unique: uniqueTitle } };
