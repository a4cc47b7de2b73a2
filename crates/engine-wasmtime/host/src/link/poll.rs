//! `poll_oneoff` for core modules that wait for a file.
//!
//! wasmtime answers whether a file can be read by reading it, in a thread. The host of a module may have none: the
//! system call that makes it ends the host. POSIX has files ready at any time (`poll(2)`: "regular files always
//! poll as readable"), so those are answered here, and all other waiting is left to wasmtime: it is given the same list
//! with an elapsed clock for each file, and its answers are told in the files' names.

use std::collections::BTreeMap;

use wasmtime::{AsContextMut as _, Caller, Extern, Linker, bail};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::ModuleState;

/// Lists up to this length are looked through; wasmtime gets longer ones as they are.
const LONGEST: usize = 1 << 16;
/// Sizes and places of WASI 0.1's records, see `typenames.witx`.
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
const FILESTAT: usize = 64;
const TOLD: usize = 4;
/// What the strictest of them asks for.
const ALIGNMENT: usize = 8;
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const REGULAR_FILE: u8 = 4;
const MONOTONIC: u32 = 1;
const ABSOLUTE: u16 = 1;
const HANGUP: u16 = 1;

pub(super) fn add(linker: &mut Linker<ModuleState>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "poll_oneoff",
        |mut caller: Caller<'_, ModuleState>, lists: (i32, i32, i32, i32)| {
            Box::new(async move {
                let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                    bail!("missing required memory export");
                };
                // As before every call: how much of the host's memory this one may have.
                let fuel = caller.as_context_mut().hostcall_fuel();
                let (bytes, state) = memory.data_and_store_mut(&mut caller);
                state.wasi.set_hostcall_fuel(fuel);
                poll(&mut state.wasi, bytes, lists).await
            })
        },
    )?;
    Ok(())
}

/// As WASI has it: subscriptions, room for as many events, how many, and where to write how many events there were.
async fn poll(
    wasi: &mut WasiP1Ctx,
    memory: &mut [u8],
    (subscriptions, events, count, told): (i32, i32, i32, i32),
) -> wasmtime::Result<i32> {
    let files = match wanted(memory, (subscriptions, events, count, told)) {
        Some(list) => files(wasi, list).await?,
        None => Vec::new(),
    };
    if files.is_empty() {
        let mut memory = GuestMemory::Unshared(memory);
        return wasi::poll_oneoff(wasi, &mut memory, subscriptions, events, count, told).await;
    }
    let length = count.cast_unsigned() as usize;
    let (first_event, counted) = (length * SUBSCRIPTION, length * (SUBSCRIPTION + EVENT));
    let from = place(subscriptions);
    let mut room = vec![0; counted + TOLD + ALIGNMENT];
    let own = aligned(&mut room, counted + TOLD);
    own[..first_event].copy_from_slice(&memory[from..from + first_event]);
    let owners: Vec<[u8; 8]> = own[..first_event]
        .chunks_exact_mut(SUBSCRIPTION)
        .enumerate()
        .map(|(index, subscription)| {
            // wasmtime gives back which one it was.
            let owner = array(subscription, 0);
            subscription[..8].copy_from_slice(&(index as u64).to_le_bytes());
            owner
        })
        .collect();
    for file in &files {
        let subscription = &mut own[file.index * SUBSCRIPTION..][..SUBSCRIPTION];
        // A moment that has passed.
        subscription[8..].fill(0);
        subscription[8] = CLOCK;
        subscription[16..20].copy_from_slice(&MONOTONIC.to_le_bytes());
        subscription[40..42].copy_from_slice(&ABSOLUTE.to_le_bytes());
    }
    let offset = |place: usize| i32::try_from(place).expect("at most LONGEST subscriptions");
    let errno = wasi::poll_oneoff(
        wasi,
        &mut GuestMemory::Unshared(own),
        0,
        offset(first_event),
        count,
        offset(counted),
    )
    .await?;
    if errno != 0 {
        return Ok(errno);
    }
    let ready = u32::from_le_bytes(array(own, counted));
    let mut answers = BTreeMap::new();
    for event in own[first_event..].chunks_exact(EVENT).take(ready as usize) {
        answers.insert(
            usize::try_from(u64::from_le_bytes(array(event, 0)))?,
            array(event, 0),
        );
    }
    for file in files {
        answers.insert(file.index, file.event());
    }
    let places = memory[place(events)..].chunks_exact_mut(EVENT);
    for (place, (index, event)) in places.zip(&answers) {
        place.copy_from_slice(event);
        place[..8].copy_from_slice(&owners[*index]);
    }
    let ready = u32::try_from(answers.len())?;
    memory[place(told)..][..TOLD].copy_from_slice(&ready.to_le_bytes());
    Ok(0)
}

/// A file that somebody wants to read, as number `index` of the list.
struct File {
    index: usize,
    /// How many there are to read.
    bytes: u64,
}

impl File {
    fn event(&self) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        event[10] = FD_READ;
        event[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        let flags = if self.bytes == 0 { HANGUP } else { 0 };
        event[24..26].copy_from_slice(&flags.to_le_bytes());
        event
    }
}

/// The descriptors that somebody wants to read, with their places in the list. None of a list that is not in memory,
/// or whose answers cannot be written: wasmtime says what is wrong with it.
fn wanted(
    memory: &[u8],
    (subscriptions, events, count, told): (i32, i32, i32, i32),
) -> Option<Vec<(usize, i32)>> {
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= LONGEST)?;
    let list = memory
        .get(place(subscriptions)..)?
        .get(..count * SUBSCRIPTION)?;
    memory.get(place(events)..)?.get(..count * EVENT)?;
    memory.get(place(told)..)?.get(..TOLD)?;
    let is_aligned = |address: i32, to: usize| place(address).is_multiple_of(to);
    if !is_aligned(subscriptions, ALIGNMENT)
        || !is_aligned(events, ALIGNMENT)
        || !is_aligned(told, TOLD)
    {
        return None;
    }
    let wanted = list
        .chunks_exact(SUBSCRIPTION)
        .enumerate()
        .filter(|(_, subscription)| subscription[8] == FD_READ)
        .map(|(index, subscription)| (index, i32::from_le_bytes(array(subscription, 16))));
    Some(wanted.collect())
}

/// Those of them that were opened by a path.
async fn files(wasi: &mut WasiP1Ctx, wanted: Vec<(usize, i32)>) -> wasmtime::Result<Vec<File>> {
    let mut files = Vec::new();
    for (index, descriptor) in wanted {
        let mut room = [0; FILESTAT + ALIGNMENT];
        let bytes = aligned(&mut room, FILESTAT);
        let mut memory = GuestMemory::Unshared(bytes);
        // The stream that a container is given has no position.
        if wasi::fd_tell(wasi, &mut memory, descriptor, 0)? != 0 {
            continue;
        }
        let position = u64::from_le_bytes(array(bytes, 0));
        let mut memory = GuestMemory::Unshared(bytes);
        if wasi::fd_fdstat_get(wasi, &mut memory, descriptor, 0).await? != 0 {
            continue;
        }
        let kind = bytes[0];
        let mut memory = GuestMemory::Unshared(bytes);
        let stat = wasi::fd_filestat_get(wasi, &mut memory, descriptor, 0).await?;
        let bytes = if kind == REGULAR_FILE && stat == 0 {
            u64::from_le_bytes(array(bytes, 32)).saturating_sub(position)
        } else {
            // A device has no size. Whoever reads it sees what comes.
            1
        };
        files.push(File { index, bytes });
    }
    Ok(files)
}

/// The part of `room` that WASI's records can lie in: they have to be aligned outside of the guest's memory, too. `room` is
/// [`ALIGNMENT`] longer than what is asked for.
fn aligned(room: &mut [u8], length: usize) -> &mut [u8] {
    let from = room.as_ptr().align_offset(ALIGNMENT);
    &mut room[from..from + length]
}

/// A guest's address. 32 bits, without a sign.
fn place(address: i32) -> usize {
    address.cast_unsigned() as usize
}

fn array<const LENGTH: usize>(bytes: &[u8], from: usize) -> [u8; LENGTH] {
    let bytes = &bytes[from..from + LENGTH];
    bytes.try_into().expect("a slice of this length")
}
