//! Sizes, times and pairs as people write and read them.

use std::path::PathBuf;
use std::time::Duration;

/// `12.3 MiB`; exact below 1 KiB.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = "";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = tenths.div_ceil(1024);
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `3 days`, `2 hours`, `5 minutes`: the greatest unit that fits, rounded down.
pub(crate) fn duration(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = time.as_secs();
    let (length, name) = UNITS
        .into_iter()
        .find(|(length, _)| seconds >= *length)
        .unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// `500M`, `2G`, `2GiB`, `1048576`: powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("a size is a number with K, M, G or T: 500M, 2G".into()),
    };
    let count: u64 = text[..digits]
        .parse()
        .map_err(|_| "a size begins with a number: 500M, 2G".to_owned())?;
    count
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is larger than any disk".to_owned())
}

/// `90s`, `15m`, `12h`, `30d`, `2w`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let length = match text[digits..].trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("a time is a number with s, m, h, d or w: 12h, 30d".into()),
    };
    let count: u64 = text[..digits]
        .parse()
        .map_err(|_| "a time begins with a number: 12h, 30d".to_owned())?;
    count
        .checked_mul(length)
        .map(Duration::from_secs)
        .ok_or_else(|| "that is longer than any uptime".to_owned())
}

/// `KEY=VALUE`; the value may be empty and may hold more equals signs.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it is written KEY=VALUE".into()),
    }
}

/// `HOST:PATH`, divided at the last colon; the path in the image is absolute.
pub(crate) fn host_file(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((host, path)) if !host.is_empty() && path.starts_with('/') => {
            Ok((host.into(), path.to_owned()))
        }
        Some((host, _)) if !host.is_empty() => {
            Err("the path in the image is absolute: HOST:/PATH".into())
        }
        _ => Err("it is written HOST:PATH, a path here and an absolute path in the image".into()),
    }
}

/// `HOST:PATH` or `HOST:PATH:ro`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Here.
    pub(crate) source: PathBuf,
    /// In the container; absolute.
    pub(crate) destination: String,
    /// The container cannot write to it.
    pub(crate) read_only: bool,
}

/// Reads a [`Volume`]. `:rw` is what it is without a word.
pub(crate) fn volume(text: &str) -> Result<Volume, String> {
    let (rest, read_only) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, true),
        Some((rest, "rw")) => (rest, false),
        _ => (text, false),
    };
    let (source, destination) = host_file(rest)?;
    Ok(Volume {
        source,
        destination,
        read_only,
    })
}

/// A number of processors, of which a part can be had.
pub(crate) fn processors(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.01..=10_000.0).contains(&number) => Ok(number),
        _ => Err("a number of processors lies between 0.01 and 10000: 0.5, 2".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_and_processors() {
        let read = |text| volume(text).map(|v| (v.source, v.destination, v.read_only));
        assert_eq!(read("a:/b").unwrap(), ("a".into(), "/b".to_owned(), false));
        assert_eq!(
            read("a:/b:ro").unwrap(),
            ("a".into(), "/b".to_owned(), true)
        );
        assert_eq!(
            read("a:b:/c:rw").unwrap(),
            ("a:b".into(), "/c".to_owned(), false)
        );
        for wrong in ["a", "a:b", ":/a", "a:ro"] {
            read(wrong).unwrap_err();
        }
        assert_eq!(processors("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "x", "nan", "inf"] {
            processors(wrong).unwrap_err();
        }
    }

    #[test]
    fn bytes_are_written_as_people_read_them() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (2 << 20, "2.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_are_written_as_people_read_them() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, count) in [
            ("0", 0),
            ("17", 17),
            ("1K", 1024),
            ("500M", 500 << 20),
            ("2GiB", 2 << 30),
            ("2 gb", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "1X", "99999999999T"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in ["", "5", "h", "1y", "-3d", "99999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_and_files_are_divided_where_they_must() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("A").is_err() && pair("=b").is_err());
        assert_eq!(host_file("./a:b:/c"), Ok(("./a:b".into(), "/c".into())));
        assert!(host_file("a:b").is_err() && host_file("a").is_err() && host_file(":/c").is_err());
    }
}
