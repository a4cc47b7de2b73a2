//! `wasi:keyvalue`: a store in memory, in both drafts that components are built for. The second has signed numbers,
//! cursors that are texts, values that are swapped if nobody else did, and another shape of what a batch gets.

use std::sync::Arc;

use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

use crate::link::Resolves;
use store::{Error, Found};

mod store;

pub(super) use store::Store;

/// A handle of the store. There is one store, so that nothing is to be remembered for a handle.
struct Bucket;

type Handle = Resource<Bucket>;
type Entry = (String, Vec<u8>);
type Answer<T> = Result<(Result<T, Error>,)>;

/// Keys of the first draft.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Keys {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// Keys of the second.
#[derive(ComponentType, Lower)]
#[component(record)]
struct KeysDraft2 {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// Which value of a key was seen. Not the value: handles would hold more of them than the store may have.
struct Cas {
    key: String,
    seen: Option<u64>,
}

/// Why a value was not swapped.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(Error),
    /// Somebody else was faster: with a handle of what it is now.
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

fn of<'a, T: Resolves>(store: &'a StoreContextMut<'_, T>) -> &'a Store {
    &store.data().drafts().store
}

pub(super) fn add_store<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    add_bucket(instance)?;
    instance.func_wrap(
        "[method]bucket.list-keys",
        |store: StoreContextMut<'_, T>, (_, cursor): (Handle, Option<u64>)| -> Answer<Keys> {
            let (keys, cursor) = of(&store).keys_from(cursor.unwrap_or(0));
            Ok((Ok(Keys { keys, cursor }),))
        },
    )
}

pub(super) fn add_store_draft2<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    add_bucket(instance)?;
    instance.func_wrap(
        "[method]bucket.list-keys",
        |store: StoreContextMut<'_, T>,
         (_, cursor): (Handle, Option<String>)|
         -> Answer<KeysDraft2> {
            let (keys, more) = of(&store).keys(cursor.as_deref());
            let cursor = keys.last().cloned().filter(|_| more);
            Ok((Ok(KeysDraft2 { keys, cursor }),))
        },
    )
}

fn add_bucket<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.resource("bucket", ResourceType::host::<Bucket>(), |_, _| Ok(()))?;
    instance.func_wrap(
        "open",
        |_: StoreContextMut<'_, T>, (identifier,): (String,)| -> Answer<Handle> {
            Ok((Store::open(&identifier).map(|()| Resource::new_own(0)),))
        },
    )?;
    instance.func_wrap(
        "[method]bucket.get",
        |store: StoreContextMut<'_, T>, (_, key): (Handle, String)| -> Answer<Option<Vec<u8>>> {
            Ok((Ok(of(&store).get(&key)),))
        },
    )?;
    instance.func_wrap(
        "[method]bucket.set",
        |store: StoreContextMut<'_, T>, (_, key, value): (Handle, String, Vec<u8>)| -> Answer<()> {
            Ok((of(&store).set(key, value),))
        },
    )?;
    instance.func_wrap(
        "[method]bucket.delete",
        |store: StoreContextMut<'_, T>, (_, key): (Handle, String)| -> Answer<()> {
            of(&store).delete(&key);
            Ok((Ok(()),))
        },
    )?;
    instance.func_wrap(
        "[method]bucket.exists",
        |store: StoreContextMut<'_, T>, (_, key): (Handle, String)| -> Answer<bool> {
            Ok((Ok(of(&store).exists(&key)),))
        },
    )
}

pub(super) fn add_atomics<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "increment",
        |store: StoreContextMut<'_, T>, (_, key, delta): (Handle, String, u64)| -> Answer<u64> {
            let add = |before: u64| before.checked_add(delta);
            Ok((of(&store).increment(key, add),))
        },
    )
}

pub(super) fn add_atomics_draft2<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "increment",
        |store: StoreContextMut<'_, T>, (_, key, delta): (Handle, String, i64)| -> Answer<i64> {
            let add = |before: i64| before.checked_add(delta);
            Ok((of(&store).increment(key, add),))
        },
    )?;
    let dropped = |mut store: StoreContextMut<'_, T>, index| {
        let table = store.data_mut().ctx().table;
        table.delete(Resource::<Cas>::new_own(index))?;
        Ok(())
    };
    instance.resource("cas", ResourceType::host::<Cas>(), dropped)?;
    instance.func_wrap(
        "[static]cas.new",
        |mut store: StoreContextMut<'_, T>, (_, key): (Handle, String)| -> Answer<Resource<Cas>> {
            let seen = of(&store).version(&key);
            Ok((Ok(store.data_mut().ctx().table.push(Cas { key, seen })?),))
        },
    )?;
    instance.func_wrap(
        "[method]cas.current",
        |mut store: StoreContextMut<'_, T>, (cas,): (Resource<Cas>,)| -> Answer<Option<Vec<u8>>> {
            let drafts = Arc::clone(store.data().drafts());
            let cas = store.data_mut().ctx().table.get_mut(&cas)?;
            // What is told is what a swap goes on from.
            let (value, seen) = drafts.store.get_version(&cas.key).unzip();
            cas.seen = seen;
            Ok((Ok(value),))
        },
    )?;
    instance.func_wrap("swap", swap)
}

fn swap<T: Resolves>(
    mut store: StoreContextMut<'_, T>,
    (cas, value): (Resource<Cas>, Vec<u8>),
) -> Result<(Result<(), CasError>,)> {
    let Cas { key, seen } = store.data_mut().ctx().table.delete(cas)?;
    let swapped = of(&store).swap(&key, seen, value);
    Ok((match swapped {
        Ok(Ok(())) => Ok(()),
        Ok(Err(seen)) => {
            let now = store.data_mut().ctx().table.push(Cas { key, seen })?;
            Err(CasError::Failed(now))
        }
        Err(error) => Err(CasError::Store(error)),
    },))
}

pub(super) fn add_batch<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "get-many",
        |store: StoreContextMut<'_, T>,
         (_, keys): (Handle, Vec<String>)|
         -> Answer<Vec<Option<Entry>>> {
            let present = |(key, value): Found| value.map(|value| (key, value));
            let all = of(&store).get_many(keys);
            Ok((all.map(|all| all.into_iter().map(present).collect()),))
        },
    )?;
    add_changes(instance)
}

pub(super) fn add_batch_draft2<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "get-many",
        |store: StoreContextMut<'_, T>, (_, keys): (Handle, Vec<String>)| -> Answer<Vec<Found>> {
            Ok((of(&store).get_many(keys),))
        },
    )?;
    add_changes(instance)
}

fn add_changes<T: Resolves>(instance: &mut LinkerInstance<'_, T>) -> Result<()> {
    instance.func_wrap(
        "set-many",
        |store: StoreContextMut<'_, T>, (_, entries): (Handle, Vec<Entry>)| -> Answer<()> {
            let mut entries = entries.into_iter();
            Ok((entries.try_for_each(|(key, value)| of(&store).set(key, value)),))
        },
    )?;
    instance.func_wrap(
        "delete-many",
        |store: StoreContextMut<'_, T>, (_, keys): (Handle, Vec<String>)| -> Answer<()> {
            keys.iter().for_each(|key| of(&store).delete(key));
            Ok((Ok(()),))
        },
    )
}
