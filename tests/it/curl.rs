//! The commands of docs/curl.md, as a reader would type them.

use std::process::Command;

use crate::harness::{DAY, HOUR, TestTopic, empty_database, record};
use crate::process::{Serving, folder, strandline, text};

/// A command of the document, and what it says that it prints.
struct Example {
    command: String,
    printed: Option<String>,
}

fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut fences = document.split("```").skip(1).step_by(2);
    for fence in &mut fences {
        let (kind, text) = fence.split_once('\n').expect("a kind of block");
        match kind {
            "sh" => examples.push(Example { command: text.to_owned(), printed: None }),
            "text" => {
                let example = examples.last_mut().expect("a command before");
                assert!(example.printed.replace(text.to_owned()).is_none(), "two outputs: {text}");
            }
            other => panic!("a block of kind {other:?}"),
        }
    }
    assert!(examples.len() > 10);
    examples
}

/// Whether the line was printed; `@` stands for a number that may be any.
fn fits(printed: &str, expected: &str) -> bool {
    match expected.split_once('@') {
        None => printed == expected,
        Some((before, after)) => printed
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())),
    }
}

#[tokio::test]
async fn the_commands_of_the_document_do_what_it_says() {
    let topic = TestTopic::create(2, &[]).await;
    topic
        .produce(&[
            record(0, 0, "order 1"),
            record(1, HOUR, "order 2"),
            record(0, 8 * HOUR, "order 3"),
            record(1, 20 * HOUR, "order 4"),
            record(0, 21 * HOUR, "order 5"),
            record(0, 24 * HOUR, "the next day"),
            record(1, 24 * HOUR, "the next day"),
        ])
        .await;
    assert_eq!(DAY, 1_753_747_200_000, "29 July 2025, as in the document");
    let (home, database) = (folder(), empty_database().await);
    let settings = [("STRANDLINE_DATABASE_URL", database.as_str())];
    let serving = Serving::start_with(home.path(), &settings);
    let mut create =
        strandline(&["token", "create", "--name", "me", "--scope", "write"], home.path());
    let token = text(&create.envs(settings).output().expect("it runs").stdout);

    let examples = examples(include_str!("../../docs/curl.md"));
    // What a command does not print can only show in that it fails.
    let mut script = "set -euo pipefail\n".to_owned();
    for (number, example) in examples.iter().enumerate() {
        let command = example
            .command
            .replace("http://127.0.0.1:8080", &serving.url)
            .replace("topic=orders", &format!("topic={}", topic.name))
            .replace("topics/orders", &format!("topics/{}", topic.name))
            .replace("\"orders\"", &format!("\"{}\"", topic.name));
        script += &format!("{{ {command}\n}} >out.{number}\n");
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home.path())
        .env("TOKEN", token.trim_end())
        .output()
        .expect("bash");
    let errors = text(&output.stderr);
    let got_to = (0..examples.len())
        .rfind(|number| home.path().join(format!("out.{number}")).exists())
        .map_or("nothing", |number| examples[number].command.as_str());
    assert!(output.status.success(), "{got_to}\nended it all: {errors}");
    for (number, example) in examples.iter().enumerate() {
        let Some(expected) = &example.printed else { continue };
        let printed = std::fs::read_to_string(home.path().join(format!("out.{number}")));
        let printed = printed.expect("its output").replace(&topic.name, "orders");
        let (printed, expected): (Vec<_>, Vec<_>) =
            (printed.lines().collect(), expected.lines().collect());
        let same = printed.len() == expected.len()
            && printed.iter().zip(&expected).all(|(p, e)| fits(p, e));
        assert!(
            same,
            "{}\nprinted {printed:#?}\ninstead of {expected:#?}\n{errors}",
            example.command
        );
    }
}

#[tokio::test]
async fn terminals_get_many_lines_and_programs_one() {
    let app = crate::harness::TestApp::spawn().await;
    let (_, asked) = app.ask("orders", 0, HOUR).await;
    let url = format!("{}{}", app.url, asked["links"]["self"].as_str().expect("a path"));
    let body = async |agent: &str, url: &str| {
        let request = app.http.get(url).header("user-agent", agent);
        request.send().await.expect("an answer").text().await.expect("a body")
    };
    let (curl, program) = (body("curl/8.0", &url).await, body("python-requests/2", &url).await);
    assert!(curl.contains("\n  \"topic\": \"orders\",\n") && curl.ends_with("}\n"), "{curl}");
    assert_eq!(program.lines().count(), 1);
    assert_eq!(body("Wget/1.21", &url).await, curl);
    let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(same(&curl), same(&program));
    let problem = body("curl/8.0", &format!("{}/v1/nothing", app.url)).await;
    assert_eq!(problem.lines().count(), 1, "{problem}");
}
