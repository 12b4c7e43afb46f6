# groom.sh FOLDER DAYS MEGABYTES: for ever, deletes files older than DAYS, then the oldest until the rest is below MEGABYTES.
folder=$1 days=$2 megabytes=$3
while :; do
    find -H "$folder" -type f -mtime "+$days" -delete
    find -H "$folder" -type f -printf '%T@ %s %p\0' | sort -zrn | awk -v limit="$megabytes" -v RS='\0' '
        { sum += $2; sub(/^[^ ]* [^ ]* /, ""); if (sum > limit * 1048576) printf "%s%c", $0, 0 }' | xargs -0 -r rm -f --
    find -H "$folder" -mindepth 1 -depth -type d -empty -mmin +60 -delete
    find -H "$folder" -xtype l -delete
    sleep 300
done
