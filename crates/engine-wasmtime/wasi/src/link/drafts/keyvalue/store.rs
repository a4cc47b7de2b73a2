//! The store itself: in memory, shared by all instances of the container, and gone with it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmtime::component::{ComponentType, Lower};

/// What all keys and values may take, in bytes.
const MOST: usize = 16 << 20;
/// What an entry takes beside its key and its value.
const ENTRY: usize = 64;
/// Keys that one call lists.
const PAGE: usize = 1000;

/// As the interface has them.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    #[expect(
        dead_code,
        reason = "the interface has it, for stores with permissions"
    )]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// A key that was asked for, and its value if it has one.
pub(super) type Found = (String, Option<Vec<u8>>);

/// The store.
#[derive(Debug, Default)]
pub(in crate::link::drafts) struct Store(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    entries: BTreeMap<String, Entry>,
    used: usize,
    /// Values that were set so far.
    versions: u64,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    /// Which of all values that were set it is.
    version: u64,
}

impl Content {
    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), Error> {
        let size = |value: &Vec<u8>| key.len() + value.len() + ENTRY;
        let before = self.entries.get(&key).map_or(0, |entry| size(&entry.value));
        let used = self.used - before + size(&value);
        if used > MOST {
            return Err(Error::Other(format!(
                "the store is full: it may have {} MiB",
                MOST >> 20
            )));
        }
        self.used = used;
        self.versions += 1;
        let version = self.versions;
        self.entries.insert(key, Entry { value, version });
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.used -= key.len() + entry.value.len() + ENTRY;
        }
    }
}

impl Store {
    /// Whether there is a store of this name: the one there is has the names that other hosts give theirs.
    pub(super) fn open(identifier: &str) -> Result<(), Error> {
        match identifier {
            "" | "default" => Ok(()),
            _ => Err(Error::NoSuchStore),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.get_version(key).map(|(value, _)| value)
    }

    /// A value and which it is, to be swapped.
    pub(super) fn get_version(&self, key: &str) -> Option<(Vec<u8>, u64)> {
        let content = self.lock();
        let entry = content.entries.get(key)?;
        Some((entry.value.clone(), entry.version))
    }

    /// Which value a key has.
    pub(super) fn version(&self, key: &str) -> Option<u64> {
        self.lock().entries.get(key).map(|entry| entry.version)
    }

    /// The values of several keys, of a total that one call may answer: a key may be asked for more than once.
    pub(super) fn get_many(&self, keys: Vec<String>) -> Result<Vec<Found>, Error> {
        let content = self.lock();
        let sizes = keys.iter().filter_map(|key| content.entries.get(key));
        if sizes.map(|entry| entry.value.len()).sum::<usize>() > MOST {
            return Err(Error::Other(format!(
                "the values are too large for one call: it may have {} MiB",
                MOST >> 20
            )));
        }
        let with_value = |key: String| {
            let value = content.entries.get(&key).map(|entry| entry.value.clone());
            (key, value)
        };
        Ok(keys.into_iter().map(with_value).collect())
    }

    pub(super) fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.lock().set(key, value)
    }

    pub(super) fn delete(&self, key: &str) {
        self.lock().delete(key);
    }

    pub(super) fn exists(&self, key: &str) -> bool {
        self.lock().entries.contains_key(key)
    }

    /// Keys in their order, those after `after`, and whether there are more.
    pub(super) fn keys(&self, after: Option<&str>) -> (Vec<String>, bool) {
        let content = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = content.entries.range::<str, _>((start, Bound::Unbounded));
        let page = keys.by_ref().take(PAGE);
        let page = page.map(|(key, _)| key.clone()).collect();
        (page, keys.next().is_some())
    }

    /// The same by number, for the older draft. A key that is set or deleted meanwhile shifts those after it.
    pub(super) fn keys_from(&self, index: u64) -> (Vec<String>, Option<u64>) {
        let content = self.lock();
        let skipped = usize::try_from(index).unwrap_or(usize::MAX);
        let keys = content.entries.keys().skip(skipped).take(PAGE);
        let page: Vec<String> = keys.cloned().collect();
        let next = skipped.saturating_add(page.len());
        let more = next < content.entries.len();
        (page, more.then(|| u64::try_from(next).unwrap_or(u64::MAX)))
    }

    /// Adds to the number that is the value, written in decimal digits; none is nought.
    pub(super) fn increment<N>(
        &self,
        key: String,
        add: impl FnOnce(N) -> Option<N>,
    ) -> Result<N, Error>
    where
        N: Copy + Default + std::str::FromStr + std::fmt::Display,
    {
        let mut content = self.lock();
        let before = match content.entries.get(&key) {
            None => N::default(),
            Some(entry) => std::str::from_utf8(&entry.value)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| Error::Other(format!("the value of {key:?} is not a number")))?,
        };
        let sum = add(before)
            .ok_or_else(|| Error::Other(format!("the number of {key:?} would be too large")))?;
        content.set(key, sum.to_string().into_bytes())?;
        Ok(sum)
    }

    /// Sets a value if the key still has the one that was seen. `Ok(Err)` says which it has instead.
    pub(super) fn swap(
        &self,
        key: &str,
        seen: Option<u64>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<u64>>, Error> {
        let mut content = self.lock();
        let now = content.entries.get(key).map(|entry| entry.version);
        if now != seen {
            return Ok(Err(now));
        }
        content.set(key.to_owned(), value).map(Ok)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_larger_than_it_may_be() {
        let store = Store::default();
        let third = vec![1; MOST / 3];
        for key in ["a", "b"] {
            store.set(key.to_owned(), third.clone()).unwrap();
        }
        let told = store.set("c".to_owned(), third.clone()).unwrap_err();
        assert!(matches!(&told, Error::Other(words) if words.contains("16 MiB")));
        // What is there may be set again, and what is deleted makes room.
        store.set("a".to_owned(), third.clone()).unwrap();
        store.delete("b");
        store.delete("b");
        store.set("c".to_owned(), third).unwrap();
        assert!(store.exists("c") && !store.exists("b"));
        store.delete("a");
        store.delete("c");
        assert_eq!(store.lock().used, 0);
    }

    #[test]
    fn keys_come_in_pages() {
        let store = Store::default();
        for number in 0..PAGE * 2 + 5 {
            store.set(format!("{number:06}"), Vec::new()).unwrap();
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = store.keys(after.as_deref());
            after = page.last().cloned();
            seen.extend(page);
            if !more {
                break;
            }
        }
        let mut by_number = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let (page, then) = store.keys_from(from);
            by_number.extend(page);
            next = then;
        }
        assert_eq!(seen.len(), PAGE * 2 + 5);
        assert_eq!(seen, by_number);
        assert_eq!(store.keys_from(u64::MAX), (Vec::new(), None));
    }

    #[test]
    fn numbers_are_added_and_values_are_swapped() {
        let store = Store::default();
        let by = |delta: i64| move |before: i64| before.checked_add(delta);
        assert_eq!(store.increment("n".to_owned(), by(5)), Ok(5));
        assert_eq!(store.increment("n".to_owned(), by(-7)), Ok(-2));
        assert_eq!(store.get("n").as_deref(), Some(&b"-2"[..]));
        store.increment("n".to_owned(), by(i64::MIN)).unwrap_err();
        store.set("word".to_owned(), b"x".to_vec()).unwrap();
        store.increment("word".to_owned(), by(1)).unwrap_err();

        assert_eq!(store.swap("new", None, b"1".to_vec()), Ok(Ok(())));
        let first = store.version("new");
        assert!(first.is_some());
        assert_eq!(store.swap("new", None, b"2".to_vec()), Ok(Err(first)));
        // The same bytes, and another value.
        store.set("new".to_owned(), b"1".to_vec()).unwrap();
        let second = store.version("new");
        assert_eq!(store.swap("new", first, b"2".to_vec()), Ok(Err(second)));
        assert_eq!(store.swap("new", second, b"2".to_vec()), Ok(Ok(())));
        assert_eq!(store.get("new").as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn a_call_gets_no_more_than_the_store_may_have() {
        let store = Store::default();
        store.set("half".to_owned(), vec![0; MOST / 2]).unwrap();
        let keys = |count| vec!["half".to_owned(); count];
        assert_eq!(store.get_many(keys(2)).unwrap().len(), 2);
        store.get_many(keys(3)).unwrap_err();
        let none = store.get_many(vec!["none".to_owned()]).unwrap();
        assert_eq!(none, [("none".to_owned(), None)]);
    }
}
