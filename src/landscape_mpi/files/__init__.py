"""Files that are whole or not there, locked, checked record by record, read as untrusted data; knows no surface."""
