//! Maps: what is refused, and that the kernel agrees.

use std::os::fd::AsFd as _;

use super::{LONGEST_TEXT, MOST_RANGES, Map, MapError, Maps, Range, make, maps_of};

fn range(inside: u32, outside: u32, count: u32) -> Range {
    Range {
        inside,
        outside,
        count,
    }
}

fn maps(ranges: &[Range]) -> Maps {
    Maps {
        users: Map(ranges.to_vec()),
        groups: Map(ranges.to_vec()),
    }
}

#[test]
fn what_the_kernel_would_not_take_is_refused() {
    let many =
        |count: u32, outside: u32| Map((0..count).map(|n| range(n, outside + n, 1)).collect());
    for (map, words) in [
        (Map::default(), "no ranges"),
        (Map(vec![range(0, 1000, 0)]), "0:1000:0, which is empty"),
        (
            Map(vec![range(0, u32::MAX, 1)]),
            "0:4294967295:1, which is empty or goes beyond",
        ),
        (
            Map(vec![range(4_294_967_000, 0, 1000)]),
            "goes beyond the last id",
        ),
        (
            Map(vec![range(0, 1000, 10), range(9, 5000, 10)]),
            "0:1000:10 and 9:5000:10, which overlap",
        ),
        (
            Map(vec![range(100, 1000, 10), range(0, 1005, 10)]),
            "100:1000:10 and 0:1005:10, which overlap",
        ),
        (many(341, 1000), "341 ranges"),
        (many(340, 4_000_000_000), "characters long"),
    ] {
        let error = map.check().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        // The kernel's own word on it.
        if rustix::process::getuid().is_root() {
            let maps = Maps {
                users: map.clone(),
                groups: map,
            };
            make(&maps).unwrap_err();
        }
    }
    // As many as there can be.
    Map((0..MOST_RANGES)
        .map(|n| u32::try_from(n).unwrap())
        .map(|n| range(n, n, 1))
        .collect())
    .check()
    .unwrap();
    assert!(many(340, 4_000_000_000).text().len() >= LONGEST_TEXT);
}

#[test]
fn the_kernel_has_the_maps_that_were_asked_for() {
    assert!(rustix::process::getuid().is_root(), "this test needs root");
    let ranges = [range(0, 65536, 65536), range(70_000, 200_000, 3)];
    let namespace = make(&maps(&ranges)).unwrap();
    assert_eq!(maps_of(namespace.as_fd()).unwrap(), maps(&ranges));
    let own = std::fs::File::open("/proc/self/ns/user").unwrap();
    maps_of(own.as_fd()).unwrap_err();
}

#[test]
fn ids_are_found_in_their_ranges() {
    let map = Map(vec![range(0, 1000, 10), range(50, 3000, 1)]);
    let found: Vec<_> = [0, 9, 10, 49, 50, 51].map(|id| map.outside(id)).to_vec();
    assert_eq!(
        found,
        [Some(1000), Some(1009), None, None, Some(3000), None]
    );
}

#[test]
fn options_of_mounts_are_read() {
    assert_eq!(
        "0:1000:10,20:3000:1".parse(),
        Ok(Map(vec![range(0, 1000, 10), range(20, 3000, 1)]))
    );
    for text in ["", "0", "0:1", "0:1:2:3", "a:1:2", "0:1:2,", "-1:0:1"] {
        assert!(
            matches!(text.parse::<Map>(), Err(MapError::Syntax(_))),
            "{text}"
        );
    }
    assert!(matches!("0:0:0".parse::<Map>(), Err(MapError::Range(_))));
}
