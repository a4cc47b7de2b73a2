//! A scope's properties: the limits of its cgroup that systemd knows, in its words.

use super::bus::Body;
use crate::cgroup::{Check, DevicePolicy, DeviceRule, Mode, Setting};

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    name: &'static str,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Flag(bool),
    Long(u64),
    Processes(Vec<u32>),
    /// A set of processors or memory nodes, as bits.
    Bits(Vec<u8>),
    /// Device and access.
    Devices(Vec<(String, String)>),
}

/// systemd's `infinity`.
const NONE: u64 = u64::MAX;
/// What `cpu.max` and `cpu.cfs_period_us` are measured in if nothing is said, in microseconds.
const PERIOD: u64 = 100_000;

impl Property {
    pub(super) fn text(name: &'static str, value: String) -> Self {
        let value = Value::Text(value);
        Self { name, value }
    }

    pub(super) fn flag(name: &'static str, value: bool) -> Self {
        let value = Value::Flag(value);
        Self { name, value }
    }

    pub(super) fn processes(name: &'static str, value: Vec<u32>) -> Self {
        let value = Value::Processes(value);
        Self { name, value }
    }

    fn long(name: &'static str, value: u64) -> Self {
        let value = Value::Long(value);
        Self { name, value }
    }

    /// Has systemd keep count of everything from the beginning.
    pub(crate) fn accounting(mode: Mode) -> Vec<Self> {
        let blocks = if mode == Mode::V2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        [
            "MemoryAccounting",
            "CPUAccounting",
            "TasksAccounting",
            blocks,
        ]
        .map(|name| Self::flag(name, true))
        .into()
    }

    /// Those of the limits that systemd knows; the others are only in the cgroup's files, where it leaves them.
    pub(crate) fn of(settings: &[Setting]) -> Vec<Self> {
        let mut properties = Vec::new();
        let (mut quota, mut period) = (None, None);
        for setting in settings {
            let value = setting.value.as_str();
            let number = || number(value);
            let found = match setting.file.as_str() {
                "memory.max" => number().map(|number| Self::long("MemoryMax", number)),
                "memory.high" => number().map(|number| Self::long("MemoryHigh", number)),
                "memory.low" => number().map(|number| Self::long("MemoryLow", number)),
                "memory.min" => number().map(|number| Self::long("MemoryMin", number)),
                "memory.swap.max" => number().map(|number| Self::long("MemorySwapMax", number)),
                "memory.limit_in_bytes" => number().map(|number| Self::long("MemoryLimit", number)),
                "pids.max" => number().map(|number| Self::long("TasksMax", number)),
                "cpu.weight" => number().map(|number| Self::long("CPUWeight", number)),
                "cpu.shares" => number().map(|number| Self::long("CPUShares", number)),
                "blkio.weight" => number().map(|number| Self::long("BlockIOWeight", number)),
                "io.bfq.weight" | "io.weight" => match setting.check {
                    Check::OrNumber(_, weight) if !value.contains(' ') => {
                        Some(Self::long("IOWeight", weight))
                    }
                    _ => None,
                },
                "cpuset.cpus" => bits(value).map(|value| Self {
                    name: "AllowedCPUs",
                    value,
                }),
                "cpuset.mems" => bits(value).map(|value| Self {
                    name: "AllowedMemoryNodes",
                    value,
                }),
                "cpu.max" if setting.check == Check::SecondWord => {
                    period = number();
                    None
                }
                "cpu.max" => {
                    let mut words = value.split_whitespace();
                    quota = words.next().and_then(self::number);
                    period = words.next().and_then(self::number).or(period);
                    None
                }
                "cpu.cfs_quota_us" => {
                    quota = number();
                    None
                }
                "cpu.cfs_period_us" => {
                    period = number();
                    None
                }
                _ => None,
            };
            properties.extend(found);
        }
        properties.extend(period.map(|period| Self::long("CPUQuotaPeriodUSec", period)));
        properties
            .extend(quota.map(|quota| Self::long("CPUQuotaPerSecUSec", per_second(quota, period))));
        properties
    }

    /// The rules for devices. systemd has only rules that allow; what it cannot say is left to the rules that are in
    /// force beside its own, in the cgroup itself.
    pub(crate) fn of_devices(policy: &DevicePolicy) -> Vec<Self> {
        let allowed: Option<Vec<_>> = policy
            .rules
            .iter()
            .filter(|rule| rule.allow)
            .map(device)
            .collect();
        match allowed.filter(|_| !policy.allow_all) {
            Some(allowed) => vec![
                Self::text("DevicePolicy", "strict".to_owned()),
                Self {
                    name: "DeviceAllow",
                    value: Value::Devices(allowed),
                },
            ],
            None => vec![Self::text("DevicePolicy", "auto".to_owned())],
        }
    }
}

/// Negative and `max` are no limit.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(NONE),
        _ if text.starts_with('-') => Some(NONE),
        _ => text.parse().ok(),
    }
}

/// Microseconds for each second, rounded up to a whole per cent, which is how systemd writes it down: it would be
/// less after a reload otherwise.
fn per_second(quota: u64, period: Option<u64>) -> u64 {
    const PER_CENT: u64 = 10_000;
    let period = period
        .filter(|period| *period != 0 && *period != NONE)
        .unwrap_or(PERIOD);
    match quota.checked_mul(1_000_000) {
        Some(quota) => (quota / period).next_multiple_of(PER_CENT),
        None => NONE,
    }
}

/// `0-2,7` as bits, the least first.
fn bits(list: &str) -> Option<Value> {
    let mut bits = Vec::new();
    for range in list
        .split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
    {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // More than any machine has, and a range that ends before it begins: the kernel says so.
        if last > 1 << 16 {
            return None;
        }
        for number in first..=last {
            if bits.len() <= number / 8 {
                bits.resize(number / 8 + 1, 0_u8);
            }
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    (!bits.is_empty()).then_some(Value::Bits(bits))
}

/// A rule in systemd's words; `None` for any major number with a certain minor.
fn device(rule: &DeviceRule) -> Option<(String, String)> {
    let kind = if rule.block { "block" } else { "char" };
    let path = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
    };
    let text = rule.to_string();
    let access = text.rsplit(' ').next().unwrap_or_default();
    Some((path, access.to_owned()))
}

/// The elements of an array `a(sv)`.
pub(super) fn write(properties: &[Property], body: &mut Body) {
    for property in properties {
        body.align(8);
        body.string(property.name);
        match &property.value {
            Value::Text(text) => {
                body.signature("s");
                body.string(text);
            }
            Value::Flag(flag) => {
                body.signature("b");
                body.number(u32::from(*flag));
            }
            Value::Long(number) => {
                body.signature("t");
                body.long(*number);
            }
            Value::Processes(processes) => {
                body.signature("au");
                body.array(4, |body| {
                    for process in processes {
                        body.number(*process);
                    }
                });
            }
            Value::Bits(bits) => {
                body.signature("ay");
                body.array(1, |body| body.0.extend(bits));
            }
            Value::Devices(devices) => {
                body.signature("a(ss)");
                body.array(8, |body| {
                    for (path, access) in devices {
                        body.align(8);
                        body.string(path);
                        body.string(access);
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Vec<(&'static str, Value)> {
        let settings: Vec<Setting> = settings
            .iter()
            .map(|(file, value)| Setting {
                controller: "cpu",
                file: (*file).to_owned(),
                value: (*value).to_owned(),
                field: "x",
                check: Check::Written,
            })
            .collect();
        let properties = Property::of(&settings);
        properties
            .into_iter()
            .map(|property| (property.name, property.value))
            .collect()
    }

    #[test]
    fn limits_in_systemds_words() {
        assert_eq!(
            of(&[
                ("memory.max", "1000"),
                ("memory.swap.max", "max"),
                ("cpu.weight", "50"),
                ("cpu.max", "12345 50000"),
                ("cpuset.cpus", "0-1,9"),
                ("pids.max", "7"),
                ("hugetlb.2MB.max", "5"),
            ]),
            [
                ("MemoryMax", Value::Long(1000)),
                ("MemorySwapMax", Value::Long(NONE)),
                ("CPUWeight", Value::Long(50)),
                ("AllowedCPUs", Value::Bits(vec![3, 2])),
                ("TasksMax", Value::Long(7)),
                ("CPUQuotaPeriodUSec", Value::Long(50_000)),
                // 24.69 per cent.
                ("CPUQuotaPerSecUSec", Value::Long(250_000)),
            ]
        );
        assert_eq!(
            of(&[
                ("memory.limit_in_bytes", "-1"),
                ("cpu.shares", "512"),
                ("cpu.cfs_period_us", "10000"),
                ("cpu.cfs_quota_us", "20000"),
            ]),
            [
                ("MemoryLimit", Value::Long(NONE)),
                ("CPUShares", Value::Long(512)),
                ("CPUQuotaPeriodUSec", Value::Long(10_000)),
                ("CPUQuotaPerSecUSec", Value::Long(2_000_000)),
            ]
        );
        assert_eq!(of(&[("cpu.max", "max 100000")])[1].1, Value::Long(NONE));
        assert_eq!(of(&[("cpuset.cpus", "5-x"), ("cpuset.mems", "")]), []);
    }

    #[test]
    fn devices_in_systemds_words() {
        let rule = |allow, major, minor| DeviceRule {
            allow,
            block: false,
            major,
            minor,
            access: 6,
        };
        let mut policy = DevicePolicy {
            allow_all: false,
            rules: vec![
                rule(true, Some(1), Some(3)),
                rule(true, Some(136), None),
                rule(false, Some(5), None),
                rule(true, None, None),
            ],
        };
        let text = |text: &str| (text.to_owned(), "rw".to_owned());
        let expected = [
            Property::text("DevicePolicy", "strict".to_owned()),
            Property {
                name: "DeviceAllow",
                value: Value::Devices(vec![
                    text("/dev/char/1:3"),
                    text("char-136"),
                    text("char-*"),
                ]),
            },
        ];
        assert_eq!(Property::of_devices(&policy), expected);
        policy.rules.push(rule(true, None, Some(3)));
        let auto = [Property::text("DevicePolicy", "auto".to_owned())];
        assert_eq!(Property::of_devices(&policy), auto);
    }

    #[test]
    fn properties_are_written_with_their_types() {
        let mut body = Body::default();
        body.array(8, |body| {
            write(
                &[Property::long("A", 5), Property::processes("P", vec![9])],
                body,
            );
        });
        let mut expected =
            b"\x30\0\0\0\0\0\0\0\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0".to_vec();
        expected.extend(b"\x01\0\0\0P\0\x02au\0\0\0\x04\0\0\0\x09\0\0\0");
        // The length counts from the first element on.
        expected[0] = u8::try_from(expected.len() - 8).unwrap();
        assert_eq!(body.0, expected);
    }
}
