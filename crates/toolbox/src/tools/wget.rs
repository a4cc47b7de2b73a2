//! `wget`, for `http` alone.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use crate::failure::{Done, Stop, failed, usage, words};
use crate::options::Options;
use crate::streams::Io;
use crate::text::base_name;

mod body;
mod exchange;
mod url;

use exchange::{Request, Response};
use url::Url;

pub(super) const HELP: &str = "wget [-q] [-S] [-O FILE] [--spider] [-T SECONDS] [--header LINE] [--post-data TEXT] [-U AGENT] URL...: fetches by http
  -O -      to standard output; without it into the last part of the address
  -S        shows what the server says about the answer
  --spider  only whether it is there
  -T        gives up after so many seconds without a byte (60)
  https is not understood: a probe or a look by http is what this is for";

const LONG: &[(&str, char)] = &[
    ("quiet", 'q'),
    ("server-response", 'S'),
    ("output-document", 'O'),
    ("spider", 's'),
    ("timeout", 'T'),
    ("header", 'H'),
    ("post-data", 'd'),
    ("user-agent", 'U'),
    ("directory-prefix", 'P'),
    ("tries", 't'),
    ("no-check-certificate", 'n'),
];
const REDIRECTS: usize = 5;

pub(super) fn run(args: &[String], io: &mut Io) -> Done {
    let options = Options::parse(args, "qSO:sT:H:d:U:P:t:nY:", LONG)?;
    if options.operands.is_empty() {
        return Err(usage("there is no address"));
    }
    for address in &options.operands {
        fetch(address, &options, io)?;
    }
    Ok(0)
}

fn fetch(address: &str, options: &Options, io: &mut Io) -> Result<(), Stop> {
    let timeout = match options.value('T') {
        None => Duration::from_secs(60),
        Some(text) => super::sleep::duration(text)?.max(Duration::from_millis(1)),
    };
    let mut url = Url::parse(address)?;
    let name = url.file_name();
    let mut request = Request {
        method: match () {
            () if options.has("s") => "HEAD",
            () if options.has("d") => "POST",
            () => "GET",
        },
        headers: options.values('H').map(str::to_owned).collect(),
        agent: options.value('U').unwrap_or("Wget").to_owned(),
        content: options.value('d').map(str::to_owned),
        timeout,
    };
    let mut redirects = 0;
    let mut response = loop {
        let response = request.send(&url, options.has("q"), io)?;
        if options.has("S") {
            for line in &response.head {
                io.complain(&format!("  {line}"));
            }
        }
        let Some(place) = response.redirect() else {
            break response;
        };
        redirects += 1;
        if redirects > REDIRECTS {
            return Err(failed("too many redirections"));
        }
        url = url.join(place)?;
        request.method = if request.method == "HEAD" {
            "HEAD"
        } else {
            "GET"
        };
        request.content = None;
    };
    if !(200..300).contains(&response.status) {
        return Err(failed(format!(
            "server returned error: {}",
            response.head[0]
        )));
    }
    if options.has("s") {
        if !options.has("q") {
            io.complain("remote file exists");
        }
        return Ok(());
    }
    save(&mut response, &name, options, io)
}

fn save(response: &mut Response, name: &str, options: &Options, io: &mut Io) -> Result<(), Stop> {
    let named = options.value('O');
    if named == Some("-") {
        return response.copy_to(&mut io.output.clone());
    }
    let path = match (named, options.value('P')) {
        (Some(path), _) => path.to_owned(),
        (None, Some(directory)) => crate::text::join(directory, name),
        (None, None) => name.to_owned(),
    };
    if path == "/dev/null" {
        return response.copy_to(&mut io::sink());
    }
    // A name that the server or the address gave does not replace anything.
    let file = match named {
        Some(_) => File::create(&path),
        None => File::options().write(true).create_new(true).open(&path),
    };
    let mut file =
        file.map_err(|error| failed(format!("can't open '{path}': {}", words(&error))))?;
    if !options.has("q") {
        io.complain(&format!("saving to '{path}'"));
    }
    response.copy_to(&mut file)?;
    file.flush()
        .map_err(|error| failed(format!("{path}: {}", words(&error))))?;
    if !options.has("q") {
        io.complain(&format!("'{}' saved", base_name(&path)));
    }
    Ok(())
}
