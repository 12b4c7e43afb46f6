//! A YAML file (JSON is YAML) as a tree with line numbers. Scalars stay as they were written.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper nesting than anybody writes.
const DEPTH: usize = 32;

/// A value and the line of its key.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `~`, `null`, or nothing at all.
    Null,
    /// A scalar; `true` when it stands without quotes, so that it may mean a number or a truth value.
    Text(String, bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// What is wrong: line, words, fix. Nothing of the file is in them.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) fix: &'static str,
}

impl Wrong {
    fn new(span: Span, what: impl Into<String>, fix: &'static str) -> Self {
        Self { line: span.start.line(), what: what.into(), fix }
    }
}

/// The documents of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Wrong> {
    let mut events = Events(Parser::new_from_str(text));
    let mut documents = Vec::new();
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (event, span) => documents.push(events.node(event, span, 0)?),
        }
    }
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Wrong> {
        match self.0.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Wrong {
                line: error.marker().line(),
                what: format!("is not YAML: {}", error.info()),
                fix: "mind indentation and quotes; a text with `: `, ` #`, or one that begins with a mark, wants \
                      quotes",
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Wrong> {
        if depth > DEPTH {
            return Err(Wrong::new(span, "is nested too deeply", "write it flatter"));
        }
        let tag = match &event {
            Event::Scalar(.., tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => tag.is_some(),
            _ => false,
        };
        if tag {
            return Err(Wrong::new(
                span,
                "has a YAML tag (`!…`)",
                "write the value without it, in quotes if it is text",
            ));
        }
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Value::Null,
            Event::Scalar(text, style, ..) => Value::Text(text.into_owned(), style == ScalarStyle::Plain),
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Value::List(list),
                        (event, span) => list.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                return Err(Wrong::new(span, "has a YAML alias (`*…`)", "write the value out where it is used"));
            }
            _ => return Err(Wrong::new(span, "ends too early", "complete it")),
        };
        Ok(Node { line: span.start.line(), value })
    }

    fn map(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut map: Vec<(String, Node)> = Vec::new();
        loop {
            let (key, span) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(map)),
                (Event::Scalar(key, ..), span) => (key.into_owned(), span),
                (_, span) => {
                    return Err(Wrong::new(span, "has a key that is not text", "write a name before the colon"));
                }
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            if let Some((_, first)) = map.iter().find(|(known, _)| *known == key) {
                let what = format!("says `{key}` twice, first in line {}", first.line);
                return Err(Wrong::new(span, what, "keep one of the two"));
            }
            map.push((key, Node { line: span.start.line(), ..node }));
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

impl Node {
    /// As JSON, by the core schema of YAML 1.2: a scalar without quotes may be a number or a truth value.
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Text(text, plain) => scalar(text, *plain),
            Value::List(all) => all.iter().map(Self::json).collect(),
            Value::Map(all) => {
                serde_json::Value::Object(all.iter().map(|(key, node)| (key.clone(), node.json())).collect())
            }
        }
    }
}

fn scalar(text: &str, plain: bool) -> serde_json::Value {
    let number = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text {
        _ if !plain => text.into(),
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ if number => {
            if let Ok(whole) = text.parse::<i64>() {
                return whole.into();
            }
            // `1_000` and `12:30` are texts; so is what JSON has no number for.
            let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
            float.and_then(serde_json::Number::from_f64).map_or_else(|| text.into(), serde_json::Value::Number)
        }
        _ => text.into(),
    }
}
