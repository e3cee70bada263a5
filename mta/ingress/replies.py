"""What the listener says, in one place. Enhanced codes as RFC 3463 and RFC 5248 mean them."""

from __future__ import annotations

from mta.smtp.reply import Reply

__all__ = [
    "ALREADY_TLS",
    "BAD_ARGUMENT",
    "BAD_HELLO",
    "BAD_LOGIN",
    "BAD_RECIPIENT",
    "BAD_SENDER",
    "BDAT_SYNTAX",
    "BEHIND_STARTTLS",
    "BYE",
    "CONTROL_CHARACTER",
    "GO_AHEAD",
    "HELLO_FIRST",
    "HELP",
    "INTERNAL",
    "LOCKED_OUT",
    "LOGGED_IN",
    "LOGIN_FIRST",
    "MAIL_FIRST",
    "MAIL_SYNTAX",
    "NEEDS_SMTPUTF8",
    "NESTED_MAIL",
    "NOT_IMPLEMENTED",
    "NOT_NOW",
    "NOT_SMTP",
    "NOT_VERIFIED",
    "NO_ARGUMENT",
    "NO_RECIPIENTS",
    "OK",
    "RCPT_SYNTAX",
    "RECIPIENT_OK",
    "SENDER_OK",
    "SHUTTING_DOWN",
    "START_TLS",
    "TLS_FIRST",
    "TOO_MANY_COMMANDS",
    "TOO_MANY_FAIL",
    "TOO_MANY_FAULTS",
    "TOO_MANY_RECIPIENTS",
    "UNKNOWN",
    "UNKNOWN_MECHANISM",
]


def _reply(code: int, text: str) -> Reply:
    return Reply(code, text, text.partition(" ")[0])


#: The frequent ones, as octets.
SENDER_OK = b"250 2.1.0 Sender OK\r\n"
RECIPIENT_OK = b"250 2.1.5 Recipient OK\r\n"
GO_AHEAD = b"354 Go ahead, end with <CR><LF>.<CR><LF>\r\n"
START_TLS = b"220 2.0.0 Ready to start TLS\r\n"

OK = _reply(250, "2.0.0 OK")
BYE = _reply(221, "2.0.0 Bye")
HELP = _reply(214, "2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP AUTH STARTTLS QUIT")
NOT_VERIFIED = _reply(252, "2.1.5 Not verified; send mail and see")
LOGGED_IN = _reply(235, "2.7.0 Authentication successful")

SHUTTING_DOWN = _reply(421, "4.3.2 Shutting down, try again later")
INTERNAL = _reply(421, "4.3.0 Internal error, closing connection")
TOO_MANY_FAULTS = _reply(421, "4.7.0 Too many errors, closing connection")
TOO_MANY_COMMANDS = _reply(421, "4.7.0 Too many commands without mail, closing connection")
LOCKED_OUT = _reply(421, "4.7.0 Too many failed logins, try again later")
TOO_MANY_FAIL = _reply(552, "5.5.3 Too many recipients, message refused")
TOO_MANY_RECIPIENTS = _reply(452, "4.5.3 Too many recipients")

UNKNOWN = _reply(500, "5.5.2 Command not recognized")
NOT_IMPLEMENTED = _reply(502, "5.5.1 Command not implemented")
NOT_SMTP = _reply(421, "4.7.0 This is an SMTP server, goodbye")
CONTROL_CHARACTER = _reply(501, "5.5.4 Control characters are not allowed in commands")
NO_ARGUMENT = _reply(501, "5.5.4 This command takes no argument")
BAD_ARGUMENT = _reply(501, "5.5.4 Bad or missing argument")
BAD_HELLO = _reply(501, "5.5.4 Give your host name")
MAIL_SYNTAX = _reply(501, "5.5.4 Syntax: MAIL FROM:<address>")
RCPT_SYNTAX = _reply(501, "5.5.4 Syntax: RCPT TO:<address>")
BDAT_SYNTAX = _reply(501, "5.5.4 Syntax: BDAT octets [LAST], closing connection")
BAD_SENDER = _reply(501, "5.1.7 Bad sender address syntax")
BAD_RECIPIENT = _reply(501, "5.1.3 Bad recipient address syntax")
NEEDS_SMTPUTF8 = _reply(553, "5.6.7 This address needs SMTPUTF8")
HELLO_FIRST = _reply(503, "5.5.1 Send EHLO first")
MAIL_FIRST = _reply(503, "5.5.1 Send MAIL first")
NESTED_MAIL = _reply(503, "5.5.1 A sender was given already")
NO_RECIPIENTS = _reply(554, "5.5.1 No valid recipients")
NOT_NOW = _reply(503, "5.5.1 Not now")
ALREADY_TLS = _reply(503, "5.5.1 TLS is active already")
BEHIND_STARTTLS = _reply(421, "4.7.0 Nothing may follow STARTTLS, closing connection")
LOGIN_FIRST = _reply(530, "5.7.0 Authentication required")
TLS_FIRST = _reply(538, "5.7.11 Encryption required, use STARTTLS first")
UNKNOWN_MECHANISM = _reply(504, "5.5.4 Unknown authentication mechanism")
BAD_LOGIN = _reply(535, "5.7.8 Authentication credentials invalid")
