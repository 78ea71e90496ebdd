"""JUnit XML: every detector is a test case, so that a CI system counts what was looked at.

A finding at or above `fail_on` is a failure, one below passes and is told as output, a suppressed
one is skipped; without a diagnosis there is one error. Something fails exactly when the analysis
does not pass."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from api.formats.told import clean, failure_of, model_path, shuts_the_gate, told_layers
from api.links import docs_address
from service.diagnosis.detectors import ALL_DETECTORS
from service.domain.analysis import Analysis
from service.domain.findings import Diagnosis, Finding, Verdict

VERDICT = "verdict"
"""Name of the test case that stands for the verdict itself."""


def junit(analysis: Analysis, address: str, path: str | None = None) -> str:
    """One suite, named for the model."""
    name = f"graddx.{clean(model_path(analysis, path))}"
    suite = Element("testsuite", {"name": name})
    properties = SubElement(suite, "properties")
    for key, value in {"analysis": analysis.id, "address": address}.items():
        SubElement(properties, "property", {"name": key, "value": value})
    if analysis.report is None:
        _without_diagnosis(suite, name, analysis)
    else:
        _cases(suite, name, analysis, analysis.report.diagnosis, address)
    counts = _counts(suite, analysis)
    suite.attrib.update(counts)
    if analysis.started_at is not None:
        suite.set("timestamp", analysis.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
    # Of the whole, Jenkins' schema knows no count of what is skipped.
    whole = {name: count for name, count in counts.items() if name != "skipped"}
    suites = Element("testsuites", {"name": "graddx", **whole})
    suites.append(suite)
    indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _case(suite: Element, classname: str, name: str) -> Element:
    case = {"classname": classname, "name": name, "time": "0.000"}
    return SubElement(suite, "testcase", case)


def _without_diagnosis(suite: Element, classname: str, analysis: Analysis) -> None:
    failure = failure_of(analysis)
    error = SubElement(_case(suite, classname, VERDICT), "error")
    error.attrib.update({"type": failure.code, "message": clean(failure.title)})
    error.text = clean(failure.detail)


def _cases(
    suite: Element, classname: str, analysis: Analysis, diagnosis: Diagnosis, address: str
) -> None:
    verdict = _case(suite, classname, VERDICT)
    if diagnosis.verdict is Verdict.INCONCLUSIVE:
        _fail(verdict, diagnosis.verdict, "No verdict could be given", diagnosis.summary)
    else:
        SubElement(verdict, "system-out").text = clean(f"{diagnosis.verdict}: {diagnosis.summary}")
    found = {finding.code: finding for finding in diagnosis.findings}
    skipped = {one.finding.code: one for one in diagnosis.suppressed}
    known = [detector.code for detector in ALL_DETECTORS]
    for code in dict.fromkeys([*known, *found, *skipped]):
        case = _case(suite, classname, code)
        if code in found:
            _tell(case, analysis, found[code], address)
        elif code in skipped:
            reason = skipped[code].reason or "ignored by the request"
            SubElement(case, "skipped", {"message": clean(reason)})


def _tell(case: Element, analysis: Analysis, finding: Finding, address: str) -> None:
    layers = f"layers: {told_layers(finding.layers)}"
    see = f"see {docs_address(address, finding.code)}"
    lines = [finding.detail, layers, *finding.causes, see]
    text = "\n".join(lines)
    if shuts_the_gate(analysis, finding):
        _fail(case, finding.severity, finding.title, text)
    else:
        out = f"{finding.severity}: {finding.title}\n{text}"
        SubElement(case, "system-out").text = clean(out)


def _fail(case: Element, kind: str, message: str, text: str) -> None:
    failure = SubElement(case, "failure", {"type": str(kind), "message": clean(message)})
    failure.text = clean(text)


def _counts(suite: Element, analysis: Analysis) -> dict[str, str]:
    seconds = analysis.report.cost.wall_seconds if analysis.report else 0.0
    return {
        "tests": str(len(suite.findall("testcase"))),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": str(len(suite.findall("testcase/error"))),
        "skipped": str(len(suite.findall("testcase/skipped"))),
        "time": f"{seconds:.3f}",
    }
