# From what runs left to pictures of them: an episode, and what the run's world model predicted of it. Of a study whose
# methods see no pictures there are none.


if STUDY.pictures.runs:

    localrules:
        draw_pictures,
        draw_pictures_present,

    # Where runs train: it plays in their simulator. On the CPU, where equal runs give equal films.
    rule film:
        input:
            specification=ancient("<runs>/{run}/specification.yaml"),
            weights="<runs>/{run}/weights.pt",
            sources=weights_for_run,  # some methods are built from what their sources left
        output:
            film="<runs>/{run}/film.npz",
        log:
            "<runs>/logs/film/{run}.log",
        wildcard_constraints:
            run="|".join(STUDY.pictures.runs),
        container:
            IMAGES["train"]
        params:
            run=subpath(input.specification, parent=True),
            made_by=source_digest,
            source=module_digest("mtrepro.filming"),
        shell:
            "mtrepro film {params.run} --output {output.film} 2> {log}"

    rule draw_pictures:
        input:
            film=film_of_picture,
        output:
            episode=report(
                "<study>/pictures/{arm}-s{seed}-episode.gif",
                caption="../report/episode.rst",
                category="Pictures",
                labels={"arm": "{arm}", "seed": "{seed}", "picture": "episode"},
            ),
            open_loop=report(
                "<study>/pictures/{arm}-s{seed}-open_loop.gif",
                caption="../report/open_loop.rst",
                category="Pictures",
                labels={"arm": "{arm}", "seed": "{seed}", "picture": "open-loop prediction"},
            ),
        log:
            "<study>/logs/pictures/{arm}-s{seed}.log",
        wildcard_constraints:
            arm=STUDY.pictures.arms,
            seed=r"\d+",
        container:
            IMAGES["analysis"]
        params:
            film=film_of_picture,
            pictures=subpath(output[0], parent=True),
            largest=STUDY.pictures.largest,
            source=module_digest("mtrepro.analysis.pictures"),
        shell:
            "mtrepro pictures {params.film} --output {params.pictures} --name {wildcards.arm}-s{wildcards.seed}"
            " --largest {params.largest} 2> {log}"

    # Of the films that are there, without planning any: a film is a param here, not an input.
    use rule draw_pictures as draw_pictures_present with:
        input:
            [],
        output:
            episode=report(
                "<study>/partial/pictures/{arm}-s{seed}-episode.gif",
                caption="../report/episode.rst",
                category="Pictures",
                labels={"arm": "{arm}", "seed": "{seed}", "picture": "episode"},
            ),
            open_loop=report(
                "<study>/partial/pictures/{arm}-s{seed}-open_loop.gif",
                caption="../report/open_loop.rst",
                category="Pictures",
                labels={"arm": "{arm}", "seed": "{seed}", "picture": "open-loop prediction"},
            ),
        log:
            "<study>/partial/logs/pictures/{arm}-s{seed}.log",
        params:
            film=film_of_picture,
            stamp=film_stamp,
            pictures=subpath(output[0], parent=True),
            largest=STUDY.pictures.largest,
            source=module_digest("mtrepro.analysis.pictures"),
