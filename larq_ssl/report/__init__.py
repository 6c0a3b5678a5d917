"""Any number of runs gathered into Markdown, CSV and one page that needs no server and no network."""

from larq_ssl.report.collect import Probe, Run, collect
from larq_ssl.report.content import Report
from larq_ssl.report.writing import write

__all__ = ["Probe", "Report", "Run", "collect", "write"]
