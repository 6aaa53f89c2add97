//! Settings of traces, by the variables of the OpenTelemetry standard.

use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use url::Url;

use super::Hidden;

/// The only protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";

/// Where traces go.
#[derive(Debug, Args)]
pub struct TraceSettings {
    /// Send traces to this OpenTelemetry collector, such as http://127.0.0.1:4318 (OTLP over
    /// HTTP); without it there are none
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub otel_exporter_otlp_endpoint: Option<Hidden>,
    /// Headers for the collector, values percent-encoded, such as `authorization=Bearer%20T`
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        value_name = "K=V,…",
        default_value = "",
        hide_env_values = true
    )]
    pub otel_exporter_otlp_headers: Hidden,
    /// How the collector is spoken to; only http/protobuf is known
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_name = "NAME", default_value = PROTOCOL)]
    pub otel_exporter_otlp_protocol: String,
    /// What the program is called in traces
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME", default_value = "strandline")]
    pub otel_service_name: String,
    /// Which traces are sent
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        value_name = "NAME",
        default_value = "parentbased_always_on"
    )]
    pub otel_traces_sampler: SamplerName,
    /// The share of traces for a sampler by ratio, 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "SHARE", default_value = "1")]
    pub otel_traces_sampler_arg: String,
}

/// Which traces are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SamplerName {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share, by the trace's id.
    #[value(name = "traceidratio")]
    TraceIdRatio,
    /// As the caller says, else all. By the standard an empty variable is as none.
    #[value(name = "parentbased_always_on", alias = "")]
    ParentBasedAlwaysOn,
    /// As the caller says, else none.
    #[value(name = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// As the caller says, else a share.
    #[value(name = "parentbased_traceidratio")]
    ParentBasedTraceIdRatio,
}

/// Where traces go, checked.
#[derive(Clone)]
pub struct Collector {
    /// Where spans are sent.
    pub traces_url: Url,
    /// Headers that go with them. Their values are marked as sensitive.
    pub headers: HeaderMap,
    /// What the program is called.
    pub service_name: String,
    /// Which traces are sent.
    pub sampler: Sampler,
}

/// A setting of traces that can't be used.
#[derive(Debug, PartialEq, Eq)]
pub struct TraceSettingError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn wrong(name: &'static str, problem: impl Into<String>) -> TraceSettingError {
    TraceSettingError { name, problem: problem.into() }
}

impl TraceSettings {
    /// Checks the settings; `None` if there are to be no traces.
    ///
    /// # Errors
    /// [`TraceSettingError`], which names the variable to look at.
    pub fn collector(&self) -> Result<Option<Collector>, TraceSettingError> {
        let endpoint = self.otel_exporter_otlp_endpoint.as_deref().map(str::trim);
        let Some(endpoint) = endpoint.filter(|url| !url.is_empty()) else { return Ok(None) };
        if !matches!(self.otel_exporter_otlp_protocol.as_str(), "" | PROTOCOL) {
            return Err(wrong(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                format!(
                    "only {PROTOCOL} is spoken; set that, and the collector's port for it (4318 as a rule) in OTEL_EXPORTER_OTLP_ENDPOINT"
                ),
            ));
        }
        Ok(Some(Collector {
            traces_url: traces_url(endpoint)?,
            headers: headers(&self.otel_exporter_otlp_headers)?,
            service_name: self.otel_service_name.clone(),
            sampler: self.sampler()?,
        }))
    }

    fn sampler(&self) -> Result<Sampler, TraceSettingError> {
        let share = self.otel_traces_sampler_arg.trim().parse::<f64>().ok();
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        let ratio = || match share {
            Some(share) => Ok(Sampler::TraceIdRatioBased(share)),
            None => {
                Err(wrong("OTEL_TRACES_SAMPLER_ARG", "it is no number from 0 to 1, such as 0.1"))
            }
        };
        Ok(match self.otel_traces_sampler {
            SamplerName::AlwaysOn => Sampler::AlwaysOn,
            SamplerName::AlwaysOff => Sampler::AlwaysOff,
            SamplerName::TraceIdRatio => ratio()?,
            SamplerName::ParentBasedAlwaysOn => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
            SamplerName::ParentBasedAlwaysOff => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
            SamplerName::ParentBasedTraceIdRatio => Sampler::ParentBased(Box::new(ratio()?)),
        })
    }
}

/// The standard's path for traces below the collector's address.
fn traces_url(endpoint: &str) -> Result<Url, TraceSettingError> {
    let wrong = |problem: &str| wrong("OTEL_EXPORTER_OTLP_ENDPOINT", problem);
    let url = Url::parse(endpoint)
        .map_err(|error| wrong(&format!("it is no URL ({error}); write it as http://host:4318")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("it is no http or https URL; write it as http://host:4318"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "it has credentials in it; give them in OTEL_EXPORTER_OTLP_HEADERS (authorization=Basic%20…)",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment; write it as http://host:4318"));
    }
    let base = url.as_str().trim_end_matches('/').to_owned();
    Url::parse(&format!("{base}/v1/traces")).map_err(|error| wrong(&error.to_string()))
}

fn headers(text: &str) -> Result<HeaderMap, TraceSettingError> {
    let entries = text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty());
    entries.map(|(index, entry)| header(index + 1, entry)).collect()
}

/// One header. Its value may be secret: what is wrong is told without it.
fn header(number: usize, entry: &str) -> Result<(HeaderName, HeaderValue), TraceSettingError> {
    let wrong = |problem: &str| {
        wrong(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!(
                "entry {number} {problem}; write name=value,name=value, what is not plain in a value percent-encoded"
            ),
        )
    };
    let (name, value) = entry.split_once('=').ok_or_else(|| wrong("has no ="))?;
    let value = decoded(value.trim()).ok_or_else(|| wrong("has a wrong percent-encoding"))?;
    let (Ok(name), Ok(mut value)) =
        (HeaderName::try_from(name.trim()), HeaderValue::try_from(value))
    else {
        return Err(wrong("is no header"));
    };
    value.set_sensitive(true);
    Ok((name, value))
}

fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traces: TraceSettings,
    }

    fn collector(arguments: &[&str]) -> Result<Option<Collector>, TraceSettingError> {
        let arguments = [&["strandline"], arguments].concat();
        Line::try_parse_from(arguments).expect("well-formed").traces.collector()
    }

    const HERE: [&str; 2] = ["--otel-exporter-otlp-endpoint", "http://127.0.0.1:4318"];

    #[test]
    fn without_an_address_there_are_no_traces() {
        assert!(collector(&[]).expect("good").is_none());
        for nothing in ["", " "] {
            let found = collector(&["--otel-exporter-otlp-endpoint", nothing]);
            assert!(found.expect("good").is_none());
        }
        // What others have set for other programs is not looked at.
        assert!(collector(&["--otel-exporter-otlp-protocol", "grpc"]).expect("good").is_none());
    }

    #[test]
    fn an_address_is_where_the_standard_says() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://host/otlp/", "https://host/otlp/v1/traces"),
        ] {
            let found = collector(&["--otel-exporter-otlp-endpoint", endpoint]).expect("good");
            assert_eq!(found.expect("on").traces_url.as_str(), url);
        }
        let headers = [&HERE[..], &["--otel-exporter-otlp-headers", "A=Bearer%20x=, b=y"]].concat();
        let found = collector(&headers).expect("good").expect("on");
        let texts = ["a", "b"].map(|name| found.headers[name].to_str().expect("a text"));
        assert_eq!((texts, found.headers.len()), (["Bearer x=", "y"], 2));
        assert!(!format!("{:?}", found.headers).contains("Bearer"), "{:?}", found.headers);
    }

    #[test]
    fn an_empty_variable_is_as_none() {
        let empty = ["--otel-exporter-otlp-protocol", "", "--otel-traces-sampler", ""];
        let headers = ["--otel-exporter-otlp-headers", ""];
        let found = collector(&[&HERE[..], &empty, &headers].concat()).expect("good").expect("on");
        assert!(format!("{:?}", found.sampler).contains("AlwaysOn"), "{:?}", found.sampler);
    }

    #[test]
    fn samplers_have_the_standards_names() {
        for (name, sampler) in [
            ("always_on", "AlwaysOn"),
            ("always_off", "AlwaysOff"),
            ("traceidratio", "TraceIdRatioBased(0.1)"),
            ("parentbased_always_on", "ParentBased(AlwaysOn)"),
            ("parentbased_always_off", "ParentBased(AlwaysOff)"),
            ("parentbased_traceidratio", "ParentBased(TraceIdRatioBased(0.1))"),
        ] {
            let named = ["--otel-traces-sampler", name, "--otel-traces-sampler-arg", "0.1"];
            let found = collector(&[&HERE[..], &named].concat()).expect("good").expect("on");
            assert_eq!(format!("{:?}", found.sampler), sampler);
        }
        let found = collector(&HERE).expect("good").expect("on");
        assert_eq!(format!("{:?}", found.sampler), "ParentBased(AlwaysOn)");
    }

    #[test]
    fn what_is_wrong_names_its_variable_and_no_secret() {
        let endpoint = "--otel-exporter-otlp-endpoint";
        for (arguments, name, part) in [
            (vec![endpoint, "localhost:4318"], "_ENDPOINT", "write it as http://host:4318"),
            (vec![endpoint, "127.0.0.1"], "_ENDPOINT", "write it as http://host:4318"),
            (vec![endpoint, "ftp://host:4318"], "_ENDPOINT", "no http or https URL"),
            (vec![endpoint, "http://me:hunter2@host"], "_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"),
            (vec![endpoint, "http://host?key=hunter2"], "_ENDPOINT", "a query or a fragment"),
            (vec![endpoint, "http://host#hunter2"], "_ENDPOINT", "a query or a fragment"),
            (vec!["--otel-exporter-otlp-protocol", "grpc"], "_PROTOCOL", "4318"),
            (vec!["--otel-exporter-otlp-headers", "a=b,hunter2"], "_HEADERS", "entry 2 has no ="),
            (vec!["--otel-exporter-otlp-headers", "a=hunter2%"], "_HEADERS", "percent"),
            (vec!["--otel-exporter-otlp-headers", "a b=hunter2"], "_HEADERS", "is no header"),
            (vec!["--otel-exporter-otlp-headers", "a=hunter2%0Ab"], "_HEADERS", "is no header"),
            (
                vec!["--otel-traces-sampler", "traceidratio", "--otel-traces-sampler-arg", "10"],
                "_SAMPLER_ARG",
                "from 0 to 1",
            ),
        ] {
            let arguments = match arguments[0] == endpoint {
                true => arguments,
                false => [&HERE[..], &arguments].concat(),
            };
            let Err(error) = collector(&arguments) else { panic!("{arguments:?}") };
            assert!(error.name.ends_with(name), "{error:?}");
            assert!(
                error.problem.contains(part) && !error.problem.contains("hunter2"),
                "{error:?}"
            );
        }
    }
}
