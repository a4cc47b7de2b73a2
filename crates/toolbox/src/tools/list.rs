//! `ls`.

use std::cmp::Reverse;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::{Done, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::{human, join};
use crate::time::Civil;

pub(super) const HELP: &str = "ls [-1aAdFhlrRSt] [FILE]...: lists files
  -a, -A  those that begin with a dot too (-A: but for . and ..)
  -d      directories themselves, not what is in them
  -l      with size and time (UTC); WASI tells no permissions, owners and links
  -h      sizes as people read them
  -F      a / after directories, a @ after symbolic links
  -R      what is in directories too
  -S, -t  by size, by time; -r the other way round
  -1      one a line, as it always is where the output is no terminal";

/// Where a terminal's width is not known.
const WIDTH: usize = 80;

struct File {
    name: String,
    path: String,
    metadata: Option<Metadata>,
}

impl File {
    fn is_dir(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_dir)
    }

    fn is_symlink(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_symlink)
    }

    fn size(&self) -> u64 {
        self.metadata.as_ref().map_or(0, Metadata::len)
    }

    fn modified(&self) -> SystemTime {
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.modified().ok())
            .unwrap_or(UNIX_EPOCH)
    }
}

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let names = [
        ("all", 'a'),
        ("almost-all", 'A'),
        ("recursive", 'R'),
        ("directory", 'd'),
        ("human-readable", 'h'),
    ];
    let mut options = Options::parse(args, "1aAdFhlrRSt", &names)?;
    if options.operands.is_empty() {
        options.operands.push(".".to_owned());
    }
    let mut code = 0;
    let mut files = Vec::new();
    let mut directories = Vec::new();
    for path in &options.operands {
        // Of a link to a directory what is in it is listed, but not by -l.
        let metadata = if options.has("ldF") {
            fs::symlink_metadata(path)
        } else {
            fs::metadata(path).or_else(|_| fs::symlink_metadata(path))
        };
        match metadata {
            Ok(metadata) => {
                let file = File {
                    name: path.clone(),
                    path: path.clone(),
                    metadata: Some(metadata),
                };
                if file.is_dir() && !options.has("d") {
                    directories.push(file);
                } else {
                    files.push(file);
                }
            }
            Err(error) => {
                io.complain(&format!("ls: {path}: {}", words(&error)));
                code = 1;
            }
        }
    }
    let titles = options.operands.len() > 1 || options.has("R");
    let mut first = files.is_empty();
    if !files.is_empty() {
        sort(&mut files, &options);
        show(&files, &options, io)?;
    }
    sort(&mut directories, &options);
    for directory in directories {
        code |= list(&directory.path, titles, &mut first, &options, io)?;
    }
    Ok(code)
}

fn list(path: &str, titles: bool, first: &mut bool, options: &Options, io: &mut Io) -> Done {
    let mut files = match read(path, options) {
        Ok(files) => files,
        Err(error) => {
            io.complain(&format!("ls: can't open '{path}': {}", words(&error)));
            return Ok(1);
        }
    };
    if titles {
        writeln!(io.output, "{}{path}:", if *first { "" } else { "\n" })?;
    }
    *first = false;
    sort(&mut files, options);
    if options.has("l") {
        writeln!(
            io.output,
            "total {}",
            files
                .iter()
                .map(|file| file.size().div_ceil(1024))
                .sum::<u64>()
        )?;
    }
    show(&files, options, io)?;
    let mut code = 0;
    if options.has("R") {
        for file in files
            .iter()
            .filter(|file| file.is_dir() && file.name != "." && file.name != "..")
        {
            code |= list(&file.path, true, first, options, io)?;
        }
    }
    Ok(code)
}

fn read(path: &str, options: &Options) -> io::Result<Vec<File>> {
    let mut names: Vec<String> = Vec::new();
    if options.has("a") {
        names.extend([".".to_owned(), "..".to_owned()]);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if options.has("aA") || !name.starts_with('.') {
            names.push(name);
        }
    }
    let with_metadata = options.has("lRStF");
    Ok(names
        .into_iter()
        .map(|name| {
            let path = join(path, &name);
            let metadata = with_metadata
                // Above the root there is the root.
                .then(|| {
                    let metadata = fs::symlink_metadata(&path);
                    metadata
                        .or_else(|_| fs::symlink_metadata(if name == ".." { "/" } else { &path }))
                        .ok()
                })
                .flatten();
            File {
                name,
                path,
                metadata,
            }
        })
        .collect())
}

fn sort(files: &mut [File], options: &Options) {
    files.sort_by(|one, other| one.name.cmp(&other.name));
    match options.last_of("St") {
        Some('S') => files.sort_by_key(|file| Reverse(file.size())),
        Some(_) => files.sort_by_key(|file| Reverse(file.modified())),
        None => {}
    }
    if options.has("r") {
        files.reverse();
    }
}

fn show(files: &[File], options: &Options, io: &mut Io) -> io::Result<()> {
    let mark = |file: &File| match () {
        () if !options.has("F") => "",
        () if file.is_dir() => "/",
        () if file.is_symlink() => "@",
        () => "",
    };
    let shown: Vec<String> = files
        .iter()
        .map(|file| {
            format!(
                "{}{}",
                printable(&file.name, io.output.terminal),
                mark(file)
            )
        })
        .collect();
    if options.has("l") {
        let now = SystemTime::now();
        for (file, name) in files.iter().zip(shown) {
            long(file, &name, now, options, io)?;
        }
    } else if io.output.terminal && options.last_of("1") != Some('1') {
        columns(&shown, io)?;
    } else {
        for name in shown {
            writeln!(io.output, "{name}")?;
        }
    }
    Ok(())
}

/// A name cannot move a terminal's cursor.
fn printable(name: &str, terminal: bool) -> String {
    if terminal {
        name.chars()
            .map(|letter| if letter.is_control() { '?' } else { letter })
            .collect()
    } else {
        name.to_owned()
    }
}

fn long(
    file: &File,
    name: &str,
    now: SystemTime,
    options: &Options,
    io: &mut Io,
) -> io::Result<()> {
    let kind = match () {
        () if file.is_dir() => 'd',
        () if file.is_symlink() => 'l',
        () if file.metadata.as_ref().is_some_and(Metadata::is_file) => '-',
        () => '?',
    };
    let size = if options.has("h") {
        human(file.size())
    } else {
        file.size().to_string()
    };
    let time = file.modified();
    let time = Civil::of(time).listed(time, now);
    let target = file
        .is_symlink()
        .then(|| fs::read_link(&file.path).ok())
        .flatten()
        .map(|target| {
            format!(
                " -> {}",
                printable(&target.to_string_lossy(), io.output.terminal)
            )
        })
        .unwrap_or_default();
    writeln!(
        io.output,
        "{kind}?????????    ? ?        ?        {size:>9} {time} {name}{target}"
    )
}

fn columns(names: &[String], io: &mut Io) -> io::Result<()> {
    let width = io
        .variable("COLUMNS")
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(WIDTH);
    let lengths = names.iter().map(|name| name.chars().count());
    let column = lengths.max().unwrap_or(0) + 2;
    let across = (width / column).max(1);
    let down = names.len().div_ceil(across);
    for row in 0..down {
        let line: Vec<String> = names
            .iter()
            .skip(row)
            .step_by(down.max(1))
            .map(|name| format!("{name:column$}"))
            .collect();
        writeln!(io.output, "{}", line.concat().trim_end())?;
    }
    Ok(())
}
