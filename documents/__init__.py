"""What people and their programs get to see of an invoice: PDF, HTML, CSV, and how each amount came about."""

from documents.csv_lines import invoice_csv
from documents.explain import explain_invoice
from documents.html_page import invoice_html
from documents.invoice import invoice_document
from documents.pdf import invoice_pdf

__all__ = ["explain_invoice", "invoice_csv", "invoice_document", "invoice_html", "invoice_pdf"]
