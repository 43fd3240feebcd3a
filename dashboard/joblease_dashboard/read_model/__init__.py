"""The tables that lists are read from: kept from the events queue, and made anew from the audit trail."""
