//! Arguments, environment, clocks, randomness, waiting, the end.

use crate::api::*;
use crate::sys::{self, Memory};
use crate::{Case, Ends, Place};

crate::cases!(
    args_sizes_get_counts_words_and_bytes,
    args_get_gives_all_words_with_their_ends,
    environ_sizes_get_counts_what_environ_get_gives,
    environ_get_gives_the_environment,
    clock_res_get_of_the_time_of_day,
    clock_res_get_of_the_steady_clock,
    clock_time_get_of_the_time_of_day,
    clock_time_get_of_the_steady_clock,
    clock_time_get_of_processor_time,
    random_get_differs,
    random_get_fills_a_long_buffer,
    random_get_of_nothing,
    sched_yield_comes_back,
    poll_oneoff_of_nothing,
    poll_oneoff_waits_for_a_time,
    poll_oneoff_waits_until_a_moment,
    poll_oneoff_of_a_moment_that_has_passed,
    poll_oneoff_tells_the_first_of_two,
    poll_oneoff_of_no_clock,
    poll_oneoff_of_standard_output,
    poll_oneoff_of_a_file,
    poll_oneoff_of_a_bad_descriptor,
    poll_oneoff_of_no_kind;
    or trapped:
    clock_res_get_of_no_clock,
    clock_time_get_of_no_clock,
    proc_raise_of_no_signal_number,
);

/// Those that end in a way of their own.
pub const ENDS: &[Case] = &[
    Case {
        name: "proc_exit_0",
        ends: Ends::With(0),
        run: |_| sys::proc_exit(0),
    },
    Case {
        name: "proc_exit_1",
        ends: Ends::With(1),
        run: |_| sys::proc_exit(1),
    },
    Case {
        name: "proc_exit_42",
        ends: Ends::With(42),
        run: |_| sys::proc_exit(42),
    },
    Case {
        name: "proc_exit_125",
        ends: Ends::With(125),
        run: |_| sys::proc_exit(125),
    },
    Case {
        name: "unreachable_is_a_trap",
        ends: Ends::With(134),
        run: |_| core::arch::wasm32::unreachable(),
    },
];

fn words(place: &Place) -> Vec<u8> {
    // What the suite gives to every case, after the program and the case's name.
    format!("/app.wasm\0{}\0two words\0gr\u{fc}n\0last\0", place.name).into_bytes()
}

fn args_sizes_get_counts_words_and_bytes(place: &Place) -> Outcome {
    let (mut count, mut size) = (Memory::new(4), Memory::new(4));
    done(
        "args_sizes_get",
        answer(sys::args_sizes_get(count.at(), size.at())),
    )?;
    same("count", count.u32(0), 5)?;
    same("bytes", size.u32(0) as usize, words(place).len())
}

fn args_get_gives_all_words_with_their_ends(place: &Place) -> Outcome {
    let wanted = words(place);
    let (mut places, mut buffer) = (Memory::new(5 * 4), Memory::new(wanted.len()));
    done("args_get", answer(sys::args_get(places.at(), buffer.at())))?;
    same(
        "words",
        String::from_utf8_lossy(buffer.bytes()).into_owned(),
        String::from_utf8_lossy(&wanted).into_owned(),
    )?;
    let start = buffer.at() as u32;
    same("place of the first", places.u32(0), start)?;
    same("place of the second", places.u32(4), start + 10)
}

fn environment() -> Answer<(u32, Vec<u8>)> {
    let (mut count, mut size) = (Memory::new(4), Memory::new(4));
    answer(sys::environ_sizes_get(count.at(), size.at()))?;
    let (mut places, mut buffer) = (
        Memory::new(4 * count.u32(0) as usize),
        Memory::new(size.u32(0) as usize),
    );
    answer(sys::environ_get(places.at(), buffer.at()))?;
    Ok((count.u32(0), buffer.bytes().to_vec()))
}

fn environ_sizes_get_counts_what_environ_get_gives(_: &Place) -> Outcome {
    let (count, bytes) = done("environment", environment())?;
    same(
        "variables",
        bytes.iter().filter(|byte| **byte == 0).count(),
        count as usize,
    )?;
    same("last byte", bytes.last().copied(), Some(0))
}

fn environ_get_gives_the_environment(_: &Place) -> Outcome {
    let (_, bytes) = done("environment", environment())?;
    for wanted in ["COLOUR=dark blue", "EMPTY=", "SUM=1+1=2"] {
        let found = bytes
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes());
        holds(&format!("the environment has {wanted}"), found)?;
    }
    Ok(())
}

fn resolution(id: u32) -> Answer<u64> {
    let mut time = Memory::new(8);
    answer(sys::clock_res_get(id, time.at()))?;
    Ok(time.u64(0))
}

fn clock_res_get_of_the_time_of_day(_: &Place) -> Outcome {
    let step = done("clock_res_get", resolution(0))?;
    holds(
        "a step is between nothing and a second",
        step > 0 && step < 1_000_000_000,
    )
}

fn clock_res_get_of_the_steady_clock(_: &Place) -> Outcome {
    let step = done("clock_res_get", resolution(1))?;
    holds(
        "a step is between nothing and a second",
        step > 0 && step < 1_000_000_000,
    )
}

fn clock_res_get_of_no_clock(_: &Place) -> Outcome {
    refused(resolution(77), &[INVAL])
}

fn clock_time_get_of_the_time_of_day(_: &Place) -> Outcome {
    let time = done("clock_time_get", clock(0))?;
    holds("it is after 2020", time > 1_577_836_800_000_000_000)
}

fn clock_time_get_of_the_steady_clock(_: &Place) -> Outcome {
    let mut last = done("clock_time_get", clock(1))?;
    for _ in 0..1000 {
        let now = done("clock_time_get", clock(1))?;
        holds("time goes forward", now >= last)?;
        last = now;
    }
    Ok(())
}

/// An engine need not have these two; one that has none says so.
fn clock_time_get_of_processor_time(_: &Place) -> Outcome {
    for id in [2, 3] {
        if clock(id).is_err() {
            refused(clock(id), &[BADF, NOTSUP, INVAL])?;
        }
    }
    Ok(())
}

fn clock_time_get_of_no_clock(_: &Place) -> Outcome {
    refused(clock(77), &[INVAL])
}

fn random(length: usize) -> Answer<Vec<u8>> {
    let mut buffer = Memory::of(&vec![0; length]);
    answer(sys::random_get(buffer.at(), length))?;
    Ok(buffer.bytes().to_vec())
}

fn random_get_differs(_: &Place) -> Outcome {
    let (one, other) = (
        done("random_get", random(32))?,
        done("random_get", random(32))?,
    );
    holds("two answers differ", one != other)
}

fn random_get_fills_a_long_buffer(_: &Place) -> Outcome {
    let bytes = done("random_get", random(200_000))?;
    for part in bytes.chunks(64) {
        holds(
            "no 32 bytes in a row are 0",
            part.len() < 32 || part.iter().any(|byte| *byte != 0),
        )?;
    }
    Ok(())
}

fn random_get_of_nothing(_: &Place) -> Outcome {
    done("random_get", random(0)).map(drop)
}

fn sched_yield_comes_back(_: &Place) -> Outcome {
    done("sched_yield", answer(sys::sched_yield()))
}

fn proc_raise_of_no_signal_number(_: &Place) -> Outcome {
    refused(answer(sys::proc_raise(200)), &[INVAL, NOTSUP, NOSYS])
}

/// A subscription to a clock.
fn timer(mark: u64, id: u32, time: u64, absolute: bool) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0..8].copy_from_slice(&mark.to_le_bytes());
    bytes[16..20].copy_from_slice(&id.to_le_bytes());
    bytes[24..32].copy_from_slice(&time.to_le_bytes());
    bytes[40..42].copy_from_slice(&u16::from(absolute).to_le_bytes());
    bytes
}

/// A subscription to a descriptor: kind 1 is reading, 2 is writing.
fn ready(mark: u64, kind: u8, fd: u32) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0..8].copy_from_slice(&mark.to_le_bytes());
    bytes[8] = kind;
    bytes[16..20].copy_from_slice(&fd.to_le_bytes());
    bytes
}

/// Of each event its mark, its error and its kind.
fn poll(subscriptions: &[Vec<u8>]) -> Answer<Vec<(u64, Errno, u8)>> {
    let mut list = Memory::of(&subscriptions.concat());
    let (mut events, mut count) = (Memory::new(32 * subscriptions.len()), Memory::new(4));
    answer(sys::poll_oneoff(
        list.at(),
        events.at(),
        subscriptions.len(),
        count.at(),
    ))?;
    let event = |at: usize| {
        (
            events.u64(at),
            Errno(u32::from(events.u16(at + 8))),
            events.u8(at + 10),
        )
    };
    Ok((0..count.u32(0) as usize)
        .map(|number| event(32 * number))
        .collect())
}

fn poll_oneoff_of_nothing(_: &Place) -> Outcome {
    refused(poll(&[]), &[INVAL])
}

fn poll_oneoff_waits_for_a_time(_: &Place) -> Outcome {
    let before = done("clock_time_get", clock(1))?;
    let events = done("poll_oneoff", poll(&[timer(7, 1, 5_000_000, false)]))?;
    let after = done("clock_time_get", clock(1))?;
    same("events", events, vec![(7, SUCCESS, 0)])?;
    holds("5 ms have passed", after - before >= 5_000_000)
}

fn poll_oneoff_waits_until_a_moment(_: &Place) -> Outcome {
    let moment = done("clock_time_get", clock(1))? + 5_000_000;
    let events = done("poll_oneoff", poll(&[timer(7, 1, moment, true)]))?;
    same("events", events, vec![(7, SUCCESS, 0)])?;
    holds(
        "the moment has passed",
        done("clock_time_get", clock(1))? >= moment,
    )
}

fn poll_oneoff_of_a_moment_that_has_passed(_: &Place) -> Outcome {
    let events = done("poll_oneoff", poll(&[timer(7, 1, 1, true)]))?;
    same("events", events, vec![(7, SUCCESS, 0)])
}

fn poll_oneoff_tells_the_first_of_two(_: &Place) -> Outcome {
    let events = done(
        "poll_oneoff",
        poll(&[
            timer(1, 1, 3_600_000_000_000, false),
            timer(2, 1, 1_000_000, false),
        ]),
    )?;
    same("events", events, vec![(2, SUCCESS, 0)])
}

fn told_or_refused(answer: Answer<Vec<(u64, Errno, u8)>>, errors: &[Errno]) -> Outcome {
    match answer {
        // The call as a whole is refused, or the event has the error.
        Ok(events) if events.len() == 1 && errors.contains(&events[0].1) => Ok(()),
        other => refused(other, errors),
    }
}

fn poll_oneoff_of_no_clock(_: &Place) -> Outcome {
    told_or_refused(poll(&[timer(7, 77, 1_000_000, false)]), &[INVAL])
}

fn poll_oneoff_of_standard_output(_: &Place) -> Outcome {
    let events = done("poll_oneoff", poll(&[ready(7, 2, 1)]))?;
    same("events", events, vec![(7, SUCCESS, 2)])
}

fn poll_oneoff_of_a_file(place: &Place) -> Outcome {
    let fd = done("open", create(place.folder, "file"))?;
    done("write", write(fd, b"words"))?;
    done("seek", seek(fd, 0, SET))?;
    for kind in [1, 2] {
        let events = done("poll_oneoff", poll(&[ready(7, kind, fd)]))?;
        same("events", events, vec![(7, SUCCESS, kind)])?;
    }
    Ok(())
}

fn poll_oneoff_of_a_bad_descriptor(_: &Place) -> Outcome {
    told_or_refused(poll(&[ready(7, 1, NO_FD)]), &[BADF])
}

fn poll_oneoff_of_no_kind(_: &Place) -> Outcome {
    told_or_refused(poll(&[ready(7, 99, 1)]), &[INVAL])
}
