"""Raw folders, read kind by kind, become samples: tables and arrays with an id, a group and a label each."""
