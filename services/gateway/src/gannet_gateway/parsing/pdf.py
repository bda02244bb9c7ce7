"""The text of PDF documents."""

from typing import IO

from pypdf import PasswordType, PdfReader

from gannet_gateway.parsing.text import TextBuffer, Unreadable, is_blank


def add_pdf(file: IO[bytes], buffer: TextBuffer) -> None:
    """Append the text of every page, a blank line between two.

    Raises:
        Unreadable: a password is needed, there is no text in it, or too much.
    """
    reader = PdfReader(file)
    # Many files are encrypted against printing only and open with an empty password.
    if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
        raise Unreadable("the PDF is encrypted; upload it without a password")
    blank = True
    for page in reader.pages:
        text = page.extract_text().strip()
        if not is_blank(text):
            buffer.add(text if blank else f"\n\n{text}")
            blank = False
    if blank:
        raise Unreadable(
            f"the PDF has no text on its {len(reader.pages)} pages (a scan?); text recognition has to be done before"
        )
    buffer.add("\n")
