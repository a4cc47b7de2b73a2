//! What options are taken, and what is said of those that are not.

use super::*;
use skiff_engine::options::Proposal;

fn generic_any(path: &str, body: &str) -> Any {
    let mut value = vec![0x0a, 1, b'x'];
    for (tag, text) in [(0x12, path), (0x1a, body)] {
        value.push(tag);
        value.push(u8::try_from(text.len()).unwrap());
        value.extend(text.as_bytes());
    }
    Any {
        type_url: "runtimeoptions.v1.Options".into(),
        value,
        ..Any::default()
    }
}

fn sentence(any: &Any) -> String {
    Options::from_any(Some(any)).unwrap_err().to_string()
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(Options::from_any(None).unwrap(), Options::default());
    assert_eq!(
        Options::from_any(Some(&Any::default())).unwrap(),
        Options::default()
    );
    assert_eq!(
        Options::from_any(Some(&generic_any("", ""))).unwrap(),
        Options::default()
    );
}

#[test]
fn toml_is_read() {
    let options = Options::from_any(Some(&generic_any(
        "",
        "SystemdCgroup = false\nWasiP3 = true\nToolbox = false\n",
    )))
    .unwrap();
    assert!(options.wasi_p3 && options.linux_programs && !options.toolbox);
}

#[test]
fn mistakes_are_told_with_key_and_line() {
    let told = sentence(&generic_any("", "WasiP3 = true\n\nSystemdGroup = true\n"));
    assert!(
        told.contains("line 3") && told.contains("SystemdGroup"),
        "{told}"
    );
    let told = sentence(&generic_any("", "SystemdCgroup = \"yes\""));
    assert!(
        told.contains("line 1") && told.contains("boolean"),
        "{told}"
    );
}

#[test]
fn every_option_reaches_the_engine() {
    let toml = "StackSize = \"1Mi\"\nTimeLimit = \"2m\"\nOptLevel = \"none\"\nBacktrace = \"functions\"\nMemoryCap = \"50%\"\n\n[Proposals]\ngc = false\nwide-arithmetic = true\n";
    let options = Options::from_toml(toml, "test").unwrap();
    let (guest, compile) = (options.guest(), options.compile());
    assert_eq!(guest.code, compile.code);
    assert_eq!(guest.stack, 1 << 20);
    assert_eq!(guest.time_limit, Some(std::time::Duration::from_secs(120)));
    let cap = guest.memory_cap.unwrap();
    assert!(cap.option == "50%" && !cap.admits_minimum);
    assert!(guest.backtrace && !guest.code.lines);
    assert_eq!(compile.opt_level, OptLevel::None);
    let proposals = compile.code.proposals;
    assert!(!proposals.allows(Proposal::Gc) && proposals.allows(Proposal::WideArithmetic));
    let toml = "CachePolicy = \"only\"\n[WasmEdge]\nInterpreter = true\nStatistics = true\nMemoryPages = 16\nPluginDirectory = \"/opt/plugins\"\n";
    let options = Options::from_toml(toml, "test").unwrap();
    let (guest, compile) = (options.guest(), options.compile());
    assert_eq!(compile.cache, CachePolicy::Only);
    assert!(compile.code.interpreted && compile.code.statistics && guest.code == compile.code);
    assert_eq!(guest.memory_pages, Some(16));
    assert_eq!(guest.plugins.as_deref(), Some("/opt/plugins"));
    assert_eq!(options.compile_tools(), CompileOptions::default());
    let default = Options::default();
    assert_eq!(default.compile(), CompileOptions::default());
    assert!(default.guest().memory_cap.unwrap().admits_minimum);
    let off = Options::from_toml("MemoryCap = \"off\"", "test").unwrap();
    assert_eq!(off.guest().memory_cap, None);
}

#[test]
fn a_wrong_value_is_answered_with_what_is_allowed() {
    for (toml, line, words) in [
        (
            "MemoryCap = \"lots\"",
            1,
            "\"default\", \"off\", a size of 1Mi or more",
        ),
        (
            "Toolbox = true\nMemoryCap = 5",
            2,
            "a percentage from \"1%\" to \"100%\"",
        ),
        (
            "StackSize = \"1Gi\"",
            1,
            "a size from \"64Ki\" to \"256Mi\"",
        ),
        ("TimeLimit = \"5 minutes\"", 1, "a number with s, m, h or d"),
        (
            "OptLevel = \"fast\"",
            1,
            "\"none\", \"speed\" or \"speed_and_size\"",
        ),
        ("Backtrace = true", 1, "\"lines\", \"functions\" or \"off\""),
        ("CachePolicy = \"never\"", 1, "\"use\", \"only\" or \"off\""),
        (
            "[WasmEdge]\nMemoryPages = 0",
            2,
            "a number of pages of 64 KiB, from 1 to 65536",
        ),
        ("[WasmEdge]\nStatistics = 1", 2, "expected a boolean"),
        (
            "[WasmEdge]\n\nPluginDirectory = \"plugins\"",
            3,
            "the absolute path of a directory of the node",
        ),
        ("[WasmEdge]\nPlugins = 1", 2, "unknown field `Plugins`"),
        ("Proposals = \"gc\"", 1, "a table of proposals"),
        (
            "[Proposals]\nsimd = true\ngcc = true",
            3,
            "unknown proposal `gcc`, expected one of bulk-memory",
        ),
        ("[Proposals]\ngc = \"on\"", 2, "expected a boolean"),
        (
            "\n[Proposals]\nsimd = false",
            2,
            "proposal relaxed-simd is built on simd",
        ),
        ("LinuxPrograms = \"no\"", 1, "expected a boolean"),
        ("memory_cap = \"off\"", 1, "unknown field `memory_cap`"),
        ("MemoryCap = \"off\"\nMemoryCap = \"off\"", 2, "duplicate"),
    ] {
        let told = Options::from_toml(toml, "test").unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("test, line {line}: ")) && told.contains(words),
            "{toml}: {told}"
        );
    }
}

#[test]
fn doctor_knows_the_same_options() {
    // serde names all that it knows.
    let told = sentence(&generic_any("", "NoSuchOption = true"));
    let (_, known) = told.split_once("expected ").unwrap();
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(known, skiff_node::doctor::cri::SHIM_OPTIONS, "{told}");
}

#[test]
fn the_command_line_tells_the_true_defaults() {
    let defaults = skiff_node::handler::DEFAULTS;
    let keys: Vec<&str> = defaults.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, skiff_node::doctor::cri::SHIM_OPTIONS);
    let lines: Vec<String> = defaults
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    let read = Options::from_any(Some(&generic_any("", "")));
    assert_eq!(
        Options::from_toml(&lines.join("\n"), "test").unwrap(),
        read.unwrap()
    );
}

#[test]
fn a_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("o.toml");
    std::fs::write(&path, "WasiP3 = true").unwrap();
    assert!(
        Options::from_any(Some(&generic_any(path.to_str().unwrap(), "")))
            .unwrap()
            .wasi_p3
    );
    std::fs::write(&path, "a = 1").unwrap();
    assert!(sentence(&generic_any(path.to_str().unwrap(), "")).starts_with(path.to_str().unwrap()));
    let told = sentence(&generic_any("/no/such/file", ""));
    assert!(told.contains("/no/such/file"), "{told}");
}

#[test]
fn options_of_runc_and_of_strangers() {
    let mut runc = RuncMessage::new();
    runc.binary_name = "crun".into();
    let mut any = Any {
        type_url: "type.googleapis.com/containerd.runc.v1.Options".into(),
        value: runc.write_to_bytes().unwrap(),
        ..Any::default()
    };
    let read = Options::from_any(Some(&any)).unwrap();
    assert_eq!(read.runc.binary_name, "crun");
    runc.systemd_cgroup = true;
    any.value = runc.write_to_bytes().unwrap();
    assert!(Options::from_any(Some(&any)).unwrap().systemd_cgroup);
    any.type_url = "io.example.Options".into();
    assert!(sentence(&any).contains("io.example.Options"));
    let damaged = Any {
        type_url: "runtimeoptions.v1.Options".into(),
        value: vec![0x12, 200],
        ..Any::default()
    };
    assert!(sentence(&damaged).contains("damaged"));
}
