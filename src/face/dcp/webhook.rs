//! Where results of a job are to be sent: read, and refused where that is not allowed.

use serde_json::Value;

use crate::config::Origins;
use crate::outbound::Url;

/// Most URLs of one job.
pub(super) const MOST: usize = 16;

/// The URLs of a deploy, each once.
///
/// # Errors
/// What is wrong with them.
pub(super) fn read(urls: Option<&Value>, allowed: &Origins) -> Result<Vec<String>, String> {
    let wrong = || "webHookUrls: must be an array of texts".to_owned();
    let Some(urls) = urls else { return Ok(Vec::new()) };
    let mut read: Vec<String> = Vec::new();
    for url in urls.as_array().ok_or_else(wrong)? {
        let url = url.as_str().ok_or_else(wrong)?;
        permitted("webHookUrls", url, allowed)?;
        if !read.iter().any(|known| known == url) {
            read.push(url.to_owned());
        }
    }
    if read.len() > MOST {
        return Err(format!("webHookUrls: at most {MOST}"));
    }
    Ok(read)
}

/// The URL, if it is one and leads to where requests may go.
///
/// # Errors
/// What is wrong with it; the origin is named.
pub(super) fn permitted(field: &str, url: &str, allowed: &Origins) -> Result<Url, String> {
    let read = Url::parse(url);
    let read = read.ok_or_else(|| format!("{field}: must be URLs such as https://a.example/b"))?;
    if allowed.contain(read.origin()) {
        return Ok(read);
    }
    Err(format!("{field}: {} is not among the origins that this server allows", read.origin()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_urls_of_allowed_origins_are_taken_and_each_once() {
        let allowed = Origins::read("https://a.example,http://b.example:8080").unwrap();
        let read = |urls: Value| super::read(Some(&urls), &allowed);
        let two =
            json!(["https://a.example/x?y", "http://b.example:8080/", "https://a.example/x?y"]);
        assert_eq!(read(two).unwrap(), ["https://a.example/x?y", "http://b.example:8080/"]);
        assert_eq!(super::read(None, &allowed), Ok(Vec::new()));
        assert_eq!(read(json!([])), Ok(Vec::new()));
        for (wrong, told) in [
            (json!("https://a.example/"), "array of texts"),
            (json!([5]), "array of texts"),
            (json!(["a.example"]), "must be URLs"),
            (json!(["https://a.example@c.example/"]), "must be URLs"),
            (json!(["http://a.example/"]), "http://a.example "),
            (json!(["https://a.example/", "https://c.example:1/x"]), "https://c.example:1 "),
        ] {
            let text = read(wrong.clone()).unwrap_err();
            assert!(text.contains(told), "{wrong}: {text}");
        }
        let many: Vec<_> = (0..=MOST).map(|n| format!("https://a.example/{n}")).collect();
        assert!(read(json!(many)).is_err());
        assert!(super::read(Some(&json!(["https://a.example/"])), &Origins::default()).is_err());
    }
}
