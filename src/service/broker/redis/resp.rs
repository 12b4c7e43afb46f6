//! RESP2, the protocol of Redis: a command as bytes, and bytes as a reply.

/// More than any answer that we ask for, in bytes and in elements.
const LARGEST: usize = 16 * 1024 * 1024;
const MOST: usize = 100_000;
/// Arrays in arrays: `ROLE` has two.
const DEEPEST: usize = 4;
/// A line that is longer is none of Redis.
const LONGEST_LINE: usize = 64 * 1024;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `+OK`
    Word(String),
    /// `-ERR …`: the server's own words, which are not fit to be shown.
    Error(String),
    /// `:1`
    Number(i64),
    /// Bytes of a known length.
    Bytes(Vec<u8>),
    /// Nothing.
    Nil,
    /// Several of them.
    List(Vec<Self>),
}

/// These bytes are not of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign;

impl Reply {
    /// Its text, where it has one.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Word(text) => Some(text.clone()),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }
}

/// The bytes of a command.
pub(super) fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The first reply, and how many bytes it takes; `None` while it is not whole.
pub(super) fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Foreign> {
    let mut at = 0;
    Ok(one(bytes, &mut at, DEEPEST)?.map(|reply| (reply, at)))
}

fn one(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Reply>, Foreign> {
    let Some(kind) = bytes.get(*at).copied() else { return Ok(None) };
    if !b"+-:$*".contains(&kind) {
        return Err(Foreign);
    }
    let rest = &bytes[*at + 1..];
    let Some(end) = rest.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
        return if rest.len() < LONGEST_LINE { Ok(None) } else { Err(Foreign) };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or(Foreign)?;
    *at += end + 2;
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(Foreign);
    Ok(Some(match kind {
        b'+' => Reply::Word(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Number(number()?),
        _ if number()? == -1 => Reply::Nil,
        b'$' => {
            let length = usize::try_from(number()?).ok().filter(|length| *length <= LARGEST).ok_or(Foreign)?;
            let Some(body) = bytes.get(*at..*at + length + 2) else { return Ok(None) };
            *at += length + 2;
            Reply::Bytes(body.strip_suffix(b"\r\n").ok_or(Foreign)?.to_vec())
        }
        _ => {
            let length =
                usize::try_from(number()?).ok().filter(|length| *length <= MOST && depth > 0).ok_or(Foreign)?;
            let mut list = Vec::new();
            for _ in 0..length {
                match one(bytes, at, depth - 1)? {
                    Some(reply) => list.push(reply),
                    None => return Ok(None),
                }
            }
            Reply::List(list)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(reply: &Reply) -> Vec<u8> {
        match reply {
            Reply::Word(text) => format!("+{text}\r\n").into_bytes(),
            Reply::Error(text) => format!("-{text}\r\n").into_bytes(),
            Reply::Number(number) => format!(":{number}\r\n").into_bytes(),
            Reply::Nil => b"$-1\r\n".to_vec(),
            Reply::Bytes(bytes) => {
                [format!("${}\r\n", bytes.len()).into_bytes(), bytes.clone(), b"\r\n".to_vec()].concat()
            }
            Reply::List(list) => {
                let head = format!("*{}\r\n", list.len()).into_bytes();
                std::iter::once(head).chain(list.iter().map(bytes)).collect::<Vec<_>>().concat()
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[ -~]{0,20}".prop_map(Reply::Word),
            "[ -~]{0,20}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Number),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Reply::Bytes),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Reply::List))
    }

    proptest! {
        #[test]
        fn every_reply_comes_back_whole_and_only_when_all_of_it_is_there(
            one in replies(),
            cut in any::<prop::sample::Index>(),
        ) {
            let sent = bytes(&one);
            prop_assert_eq!(reply(&sent), Ok(Some((one, sent.len()))));
            prop_assert_eq!(reply(&sent[..cut.index(sent.len())]), Ok(None));
        }

        #[test]
        fn no_bytes_break_the_reader(mut noise in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6_usize) {
            if let (Some(first), Some(mark)) = (noise.first_mut(), b"+-:$*".get(kind)) {
                *first = *mark;
            }
            if let Ok(Some((_, length))) = reply(&noise) {
                prop_assert!(length <= noise.len());
            }
        }
    }

    #[test]
    fn what_is_not_redis_is_told_at_once() {
        for foreign in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\x15\x03\x01\0\x02\x02\x46",
            b"AMQP\0\0\x09\x01",
            b"$9999999999\r\n",
            b"*-2\r\n",
            b":x\r\n",
            b"+OK\n",
        ] {
            assert_eq!(reply(foreign), Err(Foreign), "{foreign:?}");
        }
        assert_eq!(reply(&[b"*1\r\n".as_slice(); 9].concat()), Err(Foreign));
    }

    #[test]
    fn a_command_is_a_list_of_bytes() {
        assert_eq!(command(&["LLEN", "q\r\n"]), b"*2\r\n$4\r\nLLEN\r\n$3\r\nq\r\n\r\n");
    }
}
