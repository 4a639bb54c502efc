//! The Graphite pickle protocol, pure: frames of 4 bytes of length (big-endian) and a pickled list of `(path, (time, value))`.
//!
//! A pickle is a program for a small machine. This one knows the opcodes that lists, tuples, numbers and strings are made
//! of, in protocols 0 to 5, and nothing that imports, calls or builds objects: any other opcode ends the frame. Every value
//! is made by one opcode and shared, never copied, so memory is bounded by the length of the frame.

mod machine;
mod value;

use thiserror::Error;

use machine::Machine;
use value::Value;

/// The longest frame, as in carbon.
pub const MAX_FRAME: usize = 1 << 20;

/// Why a frame is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PickleError {
    /// An opcode that a list of datapoints does not need.
    #[error("opcode 0x{0:02x} is not allowed")]
    Opcode(u8),
    /// The frame ends too early.
    #[error("the pickle is cut short")]
    Short,
    /// An opcode finds on the stack what it cannot use.
    #[error("the pickle is malformed")]
    Malformed,
    /// More values than a frame may make.
    #[error("the pickle makes too many values")]
    TooLarge,
    /// Sequences within sequences, further than any datapoint needs.
    #[error("the pickle is nested too deeply")]
    TooDeep,
    /// The result is not a list.
    #[error("the pickle is not a list")]
    NotAList,
}

/// What became of the datapoints of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Datapoints {
    /// Written as lines.
    pub taken: u64,
    /// Not of the form `(path, (time, value))`, or with a path or a number that no line can carry.
    pub invalid: u64,
}

/// Reads the pickle of a frame and hands each datapoint on as a line without its line feed: `path value time`.
pub fn read(frame: &[u8], mut line: impl FnMut(&[u8])) -> Result<Datapoints, PickleError> {
    let result = Machine::new(frame).run()?;
    let Value::List(list) = result else {
        return Err(PickleError::NotAList);
    };
    let mut datapoints = Datapoints::default();
    let mut text = Vec::new();
    for item in &list.items {
        text.clear();
        if write_line(item, &mut text).is_some() {
            line(&text);
            datapoints.taken += 1;
        } else {
            datapoints.invalid += 1;
        }
    }
    Ok(datapoints)
}

fn write_line(item: &Value<'_>, text: &mut Vec<u8>) -> Option<()> {
    let [path, point] = item.items()? else {
        return None;
    };
    let [time, value] = point.items()? else {
        return None;
    };
    let Value::Text(path) = path else {
        return None;
    };
    let path = path.as_ref();
    let sendable = |byte: &u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    if path.is_empty() || !path.iter().all(sendable) {
        return None;
    }
    text.extend_from_slice(path);
    for number in [value, time] {
        text.push(b' ');
        text.extend_from_slice(number.number()?.as_bytes());
    }
    (text.len() < crate::lines::MAX_LINE).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(frame: &[u8]) -> (Result<Datapoints, PickleError>, Vec<String>) {
        let mut lines = Vec::new();
        let result = read(frame, |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        });
        (result, lines)
    }

    #[test]
    fn what_python_pickles_in_every_protocol_is_read() {
        // pickle.dumps([("a.b", (1500000000, 1.5)), ("c", (1500000001, 7))], protocol)
        let frames: [&[u8]; 4] = [
            b"(lp0\n(Va.b\np1\n(I1500000000\nF1.5\ntp2\ntp3\na(Vc\np4\n(I1500000001\nI7\ntp5\ntp6\na.",
            b"]q\x00((X\x03\x00\x00\x00a.bq\x01(J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00tq\x02tq\x03(X\x01\x00\x00\x00cq\x04(J\x01/hYK\x07tq\x05tq\x06e.",
            b"\x80\x02]q\x00(X\x03\x00\x00\x00a.bq\x01J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03X\x01\x00\x00\x00cq\x04J\x01/hYK\x07\x86q\x05\x86q\x06e.",
            b"\x80\x04\x95,\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x03a.b\x94J\x00/hYG?\xf8\x00\x00\x00\x00\x00\x00\x86\x94\x86\x94\x8c\x01c\x94J\x01/hYK\x07\x86\x94\x86\x94e.",
        ];
        for frame in frames {
            let (result, lines) = lines(frame);
            assert_eq!(
                result,
                Ok(Datapoints {
                    taken: 2,
                    invalid: 0
                }),
                "{frame:?}"
            );
            assert_eq!(lines, ["a.b 1.5 1500000000", "c 7 1500000001"]);
        }
    }

    #[test]
    fn opcodes_that_import_or_call_end_the_frame() {
        for frame in [
            b"cos\nsystem\n(S'id'\ntR.".as_slice(),
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            b"(i__main__\nX\n.",
            b"}.",
        ] {
            assert!(
                matches!(lines(frame).0, Err(PickleError::Opcode(_))),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn datapoints_that_no_line_can_carry_are_counted() {
        let f = |frame: &[u8]| {
            assert_eq!(
                lines(frame).0,
                Ok(Datapoints {
                    taken: 0,
                    invalid: 1
                }),
                "{frame:?}"
            );
        };
        f(b"]((U\x03a b(K\x01K\x02tte.");
        f(b"]((U\x03a\nb(K\x01K\x02tte.");
        f(b"]((U\x00(K\x01K\x02tte.");
        f(b"]((U\x01a(K\x01G\x7f\xf8\x00\x00\x00\x00\x00\x00tte.");
        f(b"](K\x01e.");
        f(b"]((U\x01aK\x01te.");
    }

    #[test]
    fn what_is_remembered_many_times_takes_no_more_memory() {
        let mut frame = b"](".to_vec();
        frame.extend(b"K\x01".repeat(100_000));
        frame.push(b'e');
        frame.extend(b"q\x00h\x00".repeat(100_000));
        frame.extend(b"\x94".repeat(200_000));
        assert_eq!(lines(&frame).0, Err(PickleError::TooLarge));
    }

    #[test]
    fn sequences_may_not_stand_within_sequences_without_end() {
        let tuples = [b")".as_slice(), &b"\x85".repeat(300_000), b"."].concat();
        assert_eq!(lines(&tuples).0, Err(PickleError::TooDeep));
        let lists = [b"]".repeat(300_000), b"a".repeat(299_999), b".".to_vec()].concat();
        assert_eq!(lines(&lists).0, Err(PickleError::TooDeep));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = lines(&frame);
        }

        #[test]
        fn any_program_of_allowed_opcodes_is_read_or_refused(
            opcodes in prop::collection::vec(
                prop::sample::select(&b"(])ltae\x85\x86\x87NJKMGU\x8cTXqhr\x94jIFSVpg.\x00\x01\x02\n1'"[..]),
                0..300,
            ),
        ) {
            let _outcome = lines(&opcodes);
        }
    }
}
