"""What happened, for the operator: settle logs become accounting files and a reject log.

`runner` reads events through durable cursors and hands them to outputs; `accounting` formats them; `files`
and `pipe` write them. Nothing here is on the way of the mail.
"""
