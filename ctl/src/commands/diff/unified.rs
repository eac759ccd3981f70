//! Line differences in the unified form.

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// Changes that are searched for a shortest script; texts that differ more are shown as replaced.
const EDITS_MAX: usize = 4000;

/// What a line of a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `@@ -1,3 +1,4 @@`
    Hunk,
    /// In both.
    Same,
    /// Only in the old text.
    Removed,
    /// Only in the new text.
    Added,
}

/// One line of a difference, with its sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// Returns the difference of two texts; nothing when they are equal.
pub(super) fn unified(old: &str, new: &str) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let changed: Vec<usize> = (0..script.len()).filter(|&index| script[index].0 != Kind::Same).collect();
    let mut lines = Vec::new();
    let mut next = 0;
    while next < changed.len() {
        let start = changed[next].saturating_sub(CONTEXT);
        let mut last = changed[next];
        // Changes whose surroundings touch share a hunk.
        while next < changed.len() && changed[next] <= last + 2 * CONTEXT {
            last = changed[next];
            next += 1;
        }
        let end = (last + CONTEXT + 1).min(script.len());
        hunk(&script, start, end, &mut lines);
    }
    lines
}

fn hunk(script: &[(Kind, &str)], start: usize, end: usize, lines: &mut Vec<Line>) {
    let count = |part: &[(Kind, &str)], other: Kind| part.iter().filter(|(kind, _)| *kind != other).count();
    let (before, within) = (&script[..start], &script[start..end]);
    let range = |other: Kind| {
        let length = count(within, other);
        // By convention an empty range names the line before it.
        format!("{},{length}", count(before, other) + usize::from(length > 0))
    };
    let head = format!("@@ -{} +{} @@", range(Kind::Added), range(Kind::Removed));
    lines.push(Line { kind: Kind::Hunk, text: head });
    for (kind, text) in within {
        let sign = match kind {
            Kind::Removed => '-',
            Kind::Added => '+',
            Kind::Same | Kind::Hunk => ' ',
        };
        lines.push(Line { kind: *kind, text: format!("{sign}{text}") });
    }
}

/// The shortest edit script, by Myers' greedy algorithm (1986): the furthest point of each diagonal for each number of
/// edits, then back along the way.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Kind, &'a str)> {
    let offset = EDITS_MAX + 1;
    let mut furthest = vec![0usize; 2 * offset + 1];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=EDITS_MAX.min(old.len() + new.len()) {
        trace.push(furthest[offset - edits - 1..=offset + edits + 1].to_vec());
        for step in 0..=edits {
            let diagonal = offset + 2 * step - edits;
            let down = step == 0 || (step != edits && furthest[diagonal - 1] < furthest[diagonal + 1]);
            let mut x = if down { furthest[diagonal + 1] } else { furthest[diagonal - 1] + 1 };
            let mut y = x + offset - diagonal;
            while x < old.len() && y < new.len() && old[x] == new[y] {
                x += 1;
                y += 1;
            }
            furthest[diagonal] = x;
            if x >= old.len() && y >= new.len() {
                return backtrack(old, new, &trace);
            }
        }
    }
    let removed = old.iter().map(|&line| (Kind::Removed, line));
    removed.chain(new.iter().map(|&line| (Kind::Added, line))).collect()
}

fn backtrack<'a>(old: &[&'a str], new: &[&'a str], trace: &[Vec<usize>]) -> Vec<(Kind, &'a str)> {
    let (mut x, mut y) = (old.len(), new.len());
    let mut script = Vec::new();
    for (edits, furthest) in trace.iter().enumerate().rev() {
        // `furthest` holds the diagonals -edits-1 ..= edits+1; diagonal d stands at d + edits + 1.
        let center = edits + 1;
        let place = center + x - y.min(center + x);
        let down = edits > 0 && (place == 1 || (place != 2 * edits + 1 && furthest[place - 1] < furthest[place + 1]));
        let (before_x, before_y) = if edits == 0 {
            (0, 0)
        } else if down {
            let before = furthest[place + 1];
            (before, before + center - (place + 1))
        } else {
            let before = furthest[place - 1];
            (before, (before + center + 1) - place)
        };
        while x > before_x && y > before_y {
            x -= 1;
            y -= 1;
            script.push((Kind::Same, old[x]));
        }
        if edits > 0 {
            if down {
                y -= 1;
                script.push((Kind::Added, new[y]));
            } else {
                x -= 1;
                script.push((Kind::Removed, old[x]));
            }
        }
    }
    script.reverse();
    script
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(old: &str, new: &str, expected: &Expect) {
        let lines: Vec<String> = unified(old, new).into_iter().map(|line| line.text).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn changes_are_shown_with_three_lines_around_them() {
        check(
            "a\nb\nc\nd\ne\nf\ng\nh\n",
            "a\nb\nc\nd\nE\nf\ng\nh\n",
            &expect![[r"
            @@ -2,7 +2,7 @@
             b
             c
             d
            -e
            +E
             f
             g
             h"]],
        );
        check(
            "",
            "a\nb\n",
            &expect![[r"
            @@ -0,0 +1,2 @@
            +a
            +b"]],
        );
        check(
            "a\n",
            "",
            &expect![[r"
            @@ -1,1 +0,0 @@
            -a"]],
        );
        check("same\n", "same\n", &expect![""]);
    }

    #[test]
    fn changes_far_apart_are_separate_hunks() {
        let old: String = (0..30).map(|line| format!("{line}\n")).collect();
        let new = old.replace("2\n3\n", "2\nx\n3\n").replace("25\n", "");
        let hunks: Vec<String> =
            unified(&old, &new).into_iter().filter(|line| line.kind == Kind::Hunk).map(|line| line.text).collect();
        assert!(hunks.len() >= 2, "{hunks:?}");
    }

    proptest! {
        #[test]
        fn the_script_turns_the_old_text_into_the_new(
            old in prop::collection::vec("[a-d]", 0..20),
            new in prop::collection::vec("[a-d]", 0..20),
        ) {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let script = script(&old, &new);
            let side = |other: Kind| script.iter().filter(|(kind, _)| *kind != other).map(|(_, line)| *line).collect::<Vec<_>>();
            prop_assert_eq!(side(Kind::Added), old);
            prop_assert_eq!(side(Kind::Removed), new);
        }
    }
}
