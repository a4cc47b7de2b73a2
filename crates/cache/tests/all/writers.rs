//! Many at once, in threads that share nothing but the directory.

use std::sync::Barrier;

use super::*;

#[test]
fn of_many_publishers_one_wins_and_all_get_its_entry() {
    let fixture = Fixture::new();
    let (directory, barrier) = (fixture.directory.path(), Barrier::new(8));
    let answers: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u8)
            .map(|number| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let cache = Cache::open(&settings(directory, 1 << 30)).unwrap();
                    barrier.wait();
                    bytes_of(
                        cache
                            .publish_bytes(&key(1), &about(), &[number; 100_000])
                            .unwrap(),
                    )
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].len(), 100_000);
    assert_eq!(fixture.names("entries"), [key(1).to_string()]);
    assert!(fixture.cache.quarantined().is_empty());
}

#[test]
fn all_who_open_a_new_cache_at_once_have_one_secret() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let (path, barrier) = (directory.path().join("cache"), Barrier::new(8));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (path, barrier) = (&path, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let cache = Cache::open(&settings(path, 1 << 30)).unwrap();
                    cache
                        .publish_bytes(&key(number), &about(), &[number; 100])
                        .unwrap();
                });
            }
        });
        let cache = Cache::open(&settings(&path, 1 << 30)).unwrap();
        for number in 0..8 {
            assert_eq!(
                bytes_of(cache.lookup(&key(number)).unwrap().unwrap()),
                [number; 100]
            );
        }
        let mut names: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["entries", "locks", "quarantine", "secret"]);
    }
}

#[test]
fn a_key_is_locked_by_one_at_a_time() {
    let fixture = Fixture::new();
    let other = Cache::open(&settings(fixture.directory.path(), 1 << 30)).unwrap();
    let lock = fixture.cache.try_lock(&key(1)).unwrap().unwrap();
    assert!(fixture.cache.try_lock(&key(1)).unwrap().is_none());
    assert!(other.try_lock(&key(1)).unwrap().is_none());
    assert!(other.try_lock(&key(2)).unwrap().is_some());
    drop(lock);
    assert!(other.try_lock(&key(1)).unwrap().is_some());
}

#[test]
fn slots_are_as_many_as_they_are() {
    let fixture = Fixture::new();
    let take = |count| fixture.cache.try_slot(count).unwrap();
    let slots: Vec<_> = (0..3).map(|_| take(3).unwrap()).collect();
    assert_eq!(
        slots
            .iter()
            .map(skiff_cache::SlotLock::number)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(take(3).is_none());
    let fourth = take(4).unwrap();
    assert_eq!(fourth.number(), 3);
    drop(slots);
    assert_eq!(take(3).unwrap().number(), 0);
    assert!(take(0).is_none());
}

#[test]
fn readers_and_writers_and_evictors_do_not_hurt_each_other() {
    let fixture = Fixture::with_limit(400_000);
    let path = fixture.directory.path();
    std::thread::scope(|scope| {
        for seed in 0..4u8 {
            scope.spawn(move || {
                let cache = Cache::open(&settings(path, 400_000)).unwrap();
                for round in 0..60u8 {
                    let number = (round.wrapping_mul(7) ^ seed) % 10;
                    let entry = match cache.lookup(&key(number)).unwrap() {
                        Some(entry) => entry,
                        // Evicted between its publication and its lookup: as good as a full disk.
                        None => {
                            match cache.publish_bytes(&key(number), &about(), &[number; 60_000]) {
                                Ok(entry) => entry,
                                Err(error) => {
                                    eprintln!("{error}");
                                    continue;
                                }
                            }
                        }
                    };
                    assert_eq!(bytes_of(entry), [number; 60_000]);
                }
            });
        }
    });
    assert!(
        fixture.cache.quarantined().is_empty(),
        "{:?}",
        fixture.cache.quarantined()
    );
    assert!(fixture.cache.list().unwrap().len() <= 10);
}
