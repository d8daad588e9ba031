"""Records made readable: tables, summaries, pictures, their text in every format.

Imports `records` and `machine`.

    tables      from records to tables of accuracy, seconds, memory
    rows        the rows that all tables share, in reading order
    value       numbers with their spread, and what stands in for one
    accuracy    accuracy, worst group, relative to an own set
    summary     a row per method under every protocol
    first       the table that a run ends with
    versus      methods beside one of them
    statistics  intervals, paired differences, average ranks
    conditions  device and machines of a table's records
    choose      which records and rows were asked for
    leaderboard one page of shared bundles, with links to them
    names       names for people
    render      tables as text, Markdown, LaTeX, CSV, JSON
    escape      texts from elsewhere made harmless
    page        `ddbench report`: one HTML file
    page_charts its charts
    images      its images
    assets      its template, style and script
    gallery     a PNG of sets
    paper_figures  figures for papers
"""
