use super::*;

fn diamond() -> Dag {
    Dag::new([(1, &[][..]), (2, &[1]), (3, &[1]), (4, &[2, 3])]).unwrap()
}

const STAND: [JobStatus; 4] =
    [JobStatus::Finished, JobStatus::Started, JobStatus::Error, JobStatus::WaitingForPrerequisites];

fn render(title: &str, format: Format) -> String {
    Drawing { title, dag: &diamond(), statuses: &STAND }.render(format).unwrap()
}

#[test]
fn dot_is_what_graphviz_reads() {
    assert_eq!(
        render("a \"b\" \\N &lt; c\u{0}", Format::Dot),
        r##"digraph flow {
  graph [label="a \"b\" \\N &amp;lt; c ", labelloc=t, rankdir=LR, fontname="sans-serif"];
  node [shape=box, style="rounded,filled", fontname="sans-serif", fontcolor="#1f2328"];
  edge [color="#8c959f"];
  1 [label="1 ✓", tooltip="Finished", fillcolor="#ccf2d4", color="#1a7f37"];
  2 [label="2 ▶", tooltip="Started", fillcolor="#cfe6ff", color="#0969da"];
  3 [label="3 ✕", tooltip="Error", fillcolor="#ffd3ce", color="#cf222e"];
  4 [label="4 …", tooltip="WaitingForPrerequisites", fillcolor="#eceff2", color="#6e7781"];
  1 -> 2;
  1 -> 3;
  2 -> 4;
  3 -> 4;
}
"##
    );
}

#[test]
fn mermaid_has_a_class_per_status() {
    assert_eq!(
        render("a: \"b\"\n---", Format::Mermaid),
        r##"---
title: "a: \"b\"\n---"
---
flowchart LR
  j1["1 ✓"]:::Finished
  j2["2 ▶"]:::Started
  j3["3 ✕"]:::Error
  j4["4 …"]:::WaitingForPrerequisites
  j1 --> j2
  j1 --> j3
  j2 --> j4
  j3 --> j4
  classDef WaitingForPrerequisites fill:#eceff2,stroke:#6e7781,color:#1f2328
  classDef Dispatched fill:#fff3c4,stroke:#9a6700,color:#1f2328
  classDef Started fill:#cfe6ff,stroke:#0969da,color:#1f2328
  classDef Finished fill:#ccf2d4,stroke:#1a7f37,color:#1f2328
  classDef Error fill:#ffd3ce,stroke:#cf222e,color:#1f2328
"##
    );
}

#[test]
fn svg_puts_levels_into_columns() {
    let text = render("a <b> & c\u{0}", Format::Svg);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "<title>a &lt;b&gt; &amp; c\u{fffd}</title>");
    let boxes: Vec<&str> = lines.iter().filter(|l| l.starts_with("<g><title>")).copied().collect();
    assert_eq!(
        boxes[0],
        r##"<g><title>1 Finished</title><rect x="24" y="104" width="49" height="28" rx="6" fill="#ccf2d4" stroke="#1a7f37"/><text x="48" y="123">1 ✓</text></g>"##
    );
    assert!(boxes[1].contains(r#"x="145" y="84""#) && boxes[2].contains(r#"x="145" y="124""#));
    assert!(boxes[3].contains(r#"x="266" y="104""#));
    let curves: Vec<&str> = lines.iter().filter(|l| l.starts_with("<path")).copied().collect();
    assert_eq!(curves.len(), 4);
    assert_eq!(curves[0], r#"<path d="M73 118C109 118 109 98 145 98"/>"#);
    assert!(text.contains("Started 1</text>") && text.contains("Dispatched 0</text>"));
}

#[test]
fn columns_are_arranged_so_that_edges_do_not_cross() {
    // 1 → 12, 2 → 11, 3 → 10: in id order all three would cross.
    let twisted =
        Dag::new([(1, &[][..]), (2, &[]), (3, &[]), (10, &[3]), (11, &[2]), (12, &[1])]).unwrap();
    let text = Drawing { title: "", dag: &twisted, statuses: &[] }.render(Format::Svg).unwrap();
    let curves = text.lines().filter(|l| l.starts_with("<path"));
    assert_eq!(curves.clone().count(), 3);
    for curve in curves {
        let numbers: Vec<&str> =
            curve.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).collect();
        assert_eq!(numbers[1], numbers[numbers.len() - 1], "{curve} is not level");
    }
}

#[test]
fn an_empty_flow_is_drawn_too() {
    let none = Dag::new([]).unwrap();
    for format in [Format::Dot, Format::Mermaid, Format::Svg] {
        assert!(Drawing { title: "none", dag: &none, statuses: &[] }.render(format).is_ok());
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let many = Dag::new((0..5_001).map(|id| (id, &[][..]))).unwrap();
    let drawing = Drawing { title: "", dag: &many, statuses: &[] };
    let refused = TooLarge { what: "jobs", count: 5_001, limit: 5_000 };
    assert_eq!(drawing.render(Format::Svg), Err(refused));
    assert_eq!(drawing.render(Format::Mermaid), Err(refused));
    assert!(drawing.render(Format::Dot).is_ok());

    let first: Vec<u32> = (0..200).collect();
    let dense = Dag::new((0..400).map(|id| (id, if id < 200 { &[][..] } else { &first }))).unwrap();
    let refused = Drawing { title: "", dag: &dense, statuses: &[] }.render(Format::Svg);
    assert_eq!(refused, Err(TooLarge { what: "dependencies", count: 40_000, limit: 20_000 }));
}
