"""From runs to tables and figures. Reads files, writes files, never imports torch."""
