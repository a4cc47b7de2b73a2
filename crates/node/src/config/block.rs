//! Our lines in a file of somebody else's: how they are marked, found again and cut out.
//!
//! The block is self-contained: taking it out gives the bytes from before, whatever is known or lost otherwise.

use std::ops::Range;

const BEGIN: &str = "# skiff-node: begin. `skiff-node uninstall` takes these lines out again.";
/// The file's last line had no end, and was given one.
const BEGIN_AFTER_OPEN_LINE: &str = "# skiff-node: begin, and the line end before it. `skiff-node uninstall` takes these lines out again.";
const END: &str = "# skiff-node: end";
/// In front of each line of a table that was taken over.
const TAKEN: &str = "#skiff-node took this over: ";

/// At the end of a single line of ours.
const LINE: &str = "# skiff-node put this line in";

/// In front of a table that containerd has by itself, and forgets once a file names another.
pub(super) const DEFAULT: &str = "# containerd's own, which it forgets once a file names others";

/// A block in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// All bytes that were put in, the blank line in front included.
    pub(super) whole: Range<usize>,
    /// What stands between the marks, without the line end of the last line.
    pub(super) body: Range<usize>,
}

/// The file's own line end.
pub(super) fn line_end(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// Appends lines (separated by `\n`, without an end) as a block.
pub(super) fn append(text: &str, lines: &str) -> String {
    let end = line_end(text);
    let open = !text.is_empty() && !text.ends_with('\n');
    let mut edited = text.to_owned();
    if open {
        edited.push_str(end);
    }
    if !text.is_empty() {
        edited.push_str(end);
    }
    for line in [if open { BEGIN_AFTER_OPEN_LINE } else { BEGIN }]
        .into_iter()
        .chain(lines.split('\n'))
        .chain([END])
    {
        edited.push_str(line);
        edited.push_str(end);
    }
    edited
}

/// Finds the block.
pub(super) fn find(text: &str) -> Option<Block> {
    let lines: Vec<(usize, &str)> = lines(text).collect();
    let trimmed = |index: usize| lines[index].1.trim();
    let begin =
        (0..lines.len()).find(|index| [BEGIN, BEGIN_AFTER_OPEN_LINE].contains(&trimmed(*index)))?;
    let end = (begin + 1..lines.len()).find(|index| trimmed(*index) == END)?;
    let mut start = lines[begin].0;
    if begin > 0 && trimmed(begin - 1).is_empty() {
        start = lines[begin - 1].0;
    }
    let after = lines[end].0 + lines[end].1.len();
    // What somebody wrote below the block stands on lines of its own.
    if trimmed(begin) == BEGIN_AFTER_OPEN_LINE && after == text.len() {
        start = without_line_end(text, start);
    }
    let body = lines[begin + 1].0;
    Some(Block {
        whole: start..after,
        body: body..without_line_end(text, lines[end].0).max(body),
    })
}

fn without_line_end(text: &str, byte: usize) -> usize {
    let before = &text[..byte];
    let before = before.strip_suffix('\n').unwrap_or(before);
    before.strip_suffix('\r').unwrap_or(before).len()
}

/// Puts other lines between the marks of a block.
pub(super) fn replace(text: &str, block: &Block, lines: &str) -> String {
    // As the block's own lines end, whatever the file's others do.
    let end = if text[..block.body.start].ends_with("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let lines = lines.replace('\n', end);
    format!(
        "{}{lines}{}",
        &text[..block.body.start],
        &text[block.body.end..]
    )
}

/// The lines of a file's own tables that get one more key.
pub(super) fn insert_line(text: &str, byte: usize, line: &str) -> String {
    let end = line_end(text);
    let before = if byte > 0 && !text[..byte].ends_with('\n') {
        end
    } else {
        ""
    };
    format!(
        "{}{before}{line} {LINE}{end}{}",
        &text[..byte],
        &text[byte..]
    )
}

/// Takes single lines out that [`insert_line`] put in.
pub(super) fn cut_lines(text: &str) -> String {
    let kept = lines(text).filter(|(_, line)| !line.trim_end().ends_with(LINE));
    kept.map(|(_, line)| line).collect()
}

/// Takes the block out.
pub(super) fn cut(text: &str, block: &Block) -> String {
    format!("{}{}", &text[..block.whole.start], &text[block.whole.end..])
}

/// Makes comments of these lines.
pub(super) fn take_over(text: &str, ranges: &[Range<usize>]) -> String {
    let taken = |byte: usize| ranges.iter().any(|range| range.contains(&byte));
    lines(text)
        .flat_map(|(byte, line)| [if taken(byte) { TAKEN } else { "" }, line])
        .collect()
}

/// Makes lines again of what was taken over.
pub(super) fn give_back(text: &str) -> String {
    lines(text)
        .map(|(_, line)| line.strip_prefix(TAKEN).unwrap_or(line))
        .collect()
}

/// The lines of what was taken over, as they were.
pub(super) fn taken(text: &str) -> String {
    lines(text)
        .filter_map(|(_, line)| line.strip_prefix(TAKEN))
        .collect()
}

/// Each line with its line end, and the byte that it begins at.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut byte = 0;
    text.split_inclusive('\n').map(move |line| {
        let begin = byte;
        byte += line.len();
        (begin, line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_out_as_it_went_in() {
        for text in [
            "", "\n", "a", "a\n", "a\n\n", "a\r\n", "a\r\nb", "\n\n\n", "a\n\n\n",
        ] {
            for lines in ["x = 1", "x\n\n\ny"] {
                let edited = append(text, lines);
                let block = find(&edited).unwrap();
                assert_eq!(cut(&edited, &block), text, "{edited:?}");
                let body = edited[block.body.clone()].replace("\r\n", "\n");
                assert_eq!(body, lines, "{edited:?}");
                let other = replace(&edited, &block, "z\nw");
                assert_eq!(other, append(text, "z\nw"));
                assert_eq!(replace(&other, &find(&other).unwrap(), lines), edited);
            }
        }
    }

    #[test]
    fn a_block_comes_out_of_the_middle() {
        let edited = format!("{}later = 1\n", append("a", "x"));
        assert_eq!(cut(&edited, &find(&edited).unwrap()), "a\nlater = 1\n");
        let edited = format!("{}later = 1\n", append("a\n", "x"));
        assert_eq!(cut(&edited, &find(&edited).unwrap()), "a\nlater = 1\n");
    }

    #[test]
    fn lines_taken_over_are_given_back() {
        let text = "a\r\n[b]\r\nc\n\nd";
        let edited = take_over(text, &[3..8, 8..10]);
        assert_eq!(
            edited,
            "a\r\n#skiff-node took this over: [b]\r\n#skiff-node took this over: c\n\nd"
        );
        assert_eq!(taken(&edited), "[b]\r\nc\n");
        assert_eq!(give_back(&edited), text);
    }
}
