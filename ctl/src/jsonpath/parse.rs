//! Reading a template.

use serde_json::Value;

use super::{Comparison, Error, Filter, Node, Operand, Path, Step};

/// Deepest nesting of filters: a template is typed by hand.
const DEPTH_MAX: usize = 16;

pub(super) fn template(text: &str) -> Result<Vec<Node>, Error> {
    let mut open: Vec<(Path, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        if start > 0 {
            nodes.push(Node::Text(rest[..start].to_owned()));
        }
        let (inside, after) = action(&rest[start + 1..])?;
        rest = after;
        if let Some(path) = inside.strip_prefix("range").filter(|path| path.starts_with([' ', '.', '['])) {
            open.push((whole_path(path.trim())?, std::mem::take(&mut nodes)));
        } else if inside == "end" {
            let (path, outer) = open.pop().ok_or_else(|| error("'end' without 'range'"))?;
            let body = std::mem::replace(&mut nodes, outer);
            nodes.push(Node::Range(path, body));
        } else if inside.starts_with(['"', '\'']) {
            let (literal, left) = quoted(inside)?;
            expect_end(left)?;
            nodes.push(Node::Text(literal));
        } else {
            nodes.push(Node::Path(whole_path(inside)?));
        }
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.to_owned()));
    }
    if open.is_empty() { Ok(nodes) } else { Err(error("'range' without 'end'")) }
}

/// Splits at the brace that ends an action, which is none within quotes.
fn action(text: &str) -> Result<(&str, &str), Error> {
    let mut quote = None;
    let mut escaped = false;
    for (index, letter) in text.char_indices() {
        match (letter, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('}', None) => return Ok((text[..index].trim(), &text[index + 1..])),
            _ => {}
        }
    }
    Err(error("'{' without '}'"))
}

fn whole_path(text: &str) -> Result<Path, Error> {
    let (path, rest) = path(text, 0)?;
    expect_end(rest)?;
    Ok(path)
}

fn expect_end(rest: &str) -> Result<(), Error> {
    if rest.trim().is_empty() { Ok(()) } else { Err(error(format!("unexpected \"{rest}\""))) }
}

/// Reads steps as far as they go and returns what is left.
fn path(text: &str, depth: usize) -> Result<(Path, &str), Error> {
    if depth > DEPTH_MAX {
        return Err(error("filters nest too deep"));
    }
    let mut steps = Vec::new();
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('$') {
        steps.push(Step::Root);
        rest = after;
    } else if let Some(after) = rest.strip_prefix('@') {
        rest = after;
    }
    loop {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Descend);
            rest = after;
            if !rest.starts_with('[') {
                rest = name(rest, &mut steps)?;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            // A lone dot is the value itself; `.[0]` is `[0]`.
            let alone = after.is_empty() || after.starts_with(['[', ' ', ')', '=', '!', '<', '>']);
            rest = if alone { after } else { name(after, &mut steps)? };
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = bracket(after, depth)?;
            steps.push(step);
            rest = after;
        } else {
            return Ok((steps, rest));
        }
    }
}

fn name<'a>(text: &'a str, steps: &mut Path) -> Result<&'a str, Error> {
    if let Some(rest) = text.strip_prefix('*') {
        steps.push(Step::Wildcard);
        return Ok(rest);
    }
    let mut field = String::new();
    let mut letters = text.char_indices();
    let mut end = text.len();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next().map(|(_, letter)| letter)),
            '.' | '[' | ']' | ' ' | ')' | '=' | '!' | '<' | '>' | ',' => {
                end = index;
                break;
            }
            letter => field.push(letter),
        }
    }
    if field.is_empty() {
        return Err(error(format!("a field name is missing before \"{text}\"")));
    }
    steps.push(Step::Field(field));
    Ok(&text[end..])
}

fn bracket(text: &str, depth: usize) -> Result<(Step, &str), Error> {
    if let Some(inside) = text.strip_prefix("?(") {
        let (filter, rest) = filter(inside, depth + 1)?;
        let rest = rest.trim_start().strip_prefix(")]").ok_or_else(|| error("a filter must end in ')]'"))?;
        return Ok((Step::Filter(Box::new(filter)), rest));
    }
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let (step, after) = if rest.starts_with(['"', '\'']) {
            let (key, after) = quoted(rest)?;
            (Step::Field(key), after)
        } else {
            let end = rest.find([',', ']']).ok_or_else(|| error("'[' without ']'"))?;
            (index_or_slice(rest[..end].trim())?, &rest[end..])
        };
        steps.push(step);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            let step = if steps.len() == 1 { steps.remove(0) } else { Step::Union(steps) };
            return Ok((step, after));
        }
        rest = rest.strip_prefix(',').ok_or_else(|| error("'[' without ']'"))?;
    }
}

fn index_or_slice(text: &str) -> Result<Step, Error> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| error(format!("\"{text}\" is not an index")));
    if !text.contains(':') {
        return number(text).map(Step::Index);
    }
    let optional = |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(number).transpose();
    let mut parts = text.split(':');
    let (start, end, step) = (optional(parts.next())?, optional(parts.next())?, optional(parts.next())?);
    let step = usize::try_from(step.unwrap_or(1)).ok().filter(|step| *step > 0);
    Ok(Step::Slice { start, end, step: step.ok_or_else(|| error("the step of a slice must be positive"))? })
}

fn filter(text: &str, depth: usize) -> Result<(Filter, &str), Error> {
    let (left, rest) = operand(text.trim_start(), depth)?;
    let rest = rest.trim_start();
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    for (sign, comparison) in comparisons {
        if let Some(after) = rest.strip_prefix(sign) {
            let (right, rest) = operand(after.trim_start(), depth)?;
            return Ok((Filter { left, test: Some((comparison, right)) }, rest));
        }
    }
    Ok((Filter { left, test: None }, rest))
}

fn operand(text: &str, depth: usize) -> Result<(Operand, &str), Error> {
    if text.starts_with(['@', '$', '.']) {
        return path(text, depth).map(|(path, rest)| (Operand::Path(path), rest));
    }
    if text.starts_with(['"', '\'']) {
        return quoted(text).map(|(literal, rest)| (Operand::Literal(Value::String(literal)), rest));
    }
    let end = text.find([')', ' ', '=', '!', '<', '>']).unwrap_or(text.len());
    let literal =
        serde_json::from_str(&text[..end]).map_err(|_| error(format!("\"{}\" is not a value", &text[..end])))?;
    Ok((Operand::Literal(literal), &text[end..]))
}

/// Reads a quoted text with the escapes of Go and returns what follows it.
fn quoted(text: &str) -> Result<(String, &str), Error> {
    let mut letters = text.char_indices();
    let open = letters.next().map(|(_, letter)| letter);
    let mut literal = String::new();
    while let Some((index, letter)) = letters.next() {
        if Some(letter) == open {
            return Ok((literal, &text[index + 1..]));
        }
        if letter != '\\' {
            literal.push(letter);
            continue;
        }
        match letters.next().map(|(_, letter)| letter) {
            Some('n') => literal.push('\n'),
            Some('t') => literal.push('\t'),
            Some('r') => literal.push('\r'),
            Some(other) => literal.push(other),
            None => break,
        }
    }
    Err(error("a quote is not closed"))
}

fn error(problem: impl Into<String>) -> Error {
    Error(problem.into())
}
